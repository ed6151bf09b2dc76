INSERT INTO idempotency (tenant, key, number, id, fingerprint) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (tenant, key) DO UPDATE SET number = excluded.number, id = excluded.id,
    fingerprint = excluded.fingerprint, expires_at = NULL, state = NULL
