DELETE FROM meta WHERE key = 'replaced'
