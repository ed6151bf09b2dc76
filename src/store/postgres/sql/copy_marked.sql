SELECT key FROM meta WHERE key = $1
