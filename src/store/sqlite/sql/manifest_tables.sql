-- What SQLite keeps for itself is not of the backup, apart from the highest numbers that were given.
SELECT name FROM sqlite_schema
WHERE type = 'table' AND name <> 'manifest' AND (name NOT LIKE 'sqlite\_%' ESCAPE '\' OR name = 'sqlite_sequence')
ORDER BY name
