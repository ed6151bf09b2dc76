INSERT INTO dead_letters (number, reason, fingerprint, error, died_at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (number) DO UPDATE SET reason = excluded.reason, fingerprint = excluded.fingerprint,
    error = excluded.error, died_at = excluded.died_at
