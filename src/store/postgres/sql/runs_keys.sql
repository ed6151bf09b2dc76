SELECT limit_key FROM runs WHERE state = 'running' AND tenant = $1 AND limit_key IS NOT NULL
