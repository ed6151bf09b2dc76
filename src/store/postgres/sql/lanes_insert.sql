INSERT INTO lanes (queue, tenant, limit_key, needs) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING
