INSERT INTO limits (tenant, key, max_running) VALUES ($1, $2, $3)
ON CONFLICT (tenant, key) DO UPDATE SET max_running = excluded.max_running
