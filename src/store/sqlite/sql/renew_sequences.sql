INSERT INTO sqlite_sequence (name, seq)
SELECT n.name, 0 FROM (SELECT 'jobs' AS name UNION ALL SELECT 'events' UNION ALL SELECT 'runs') n
WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence s WHERE s.name = n.name)
