-- What a file is that is no store, or not yet.
SELECT key FROM meta WHERE key IN ('backup', 'copying', 'replaced') ORDER BY key
