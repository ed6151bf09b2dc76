INSERT INTO limits (tenant, key, max_running) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING
