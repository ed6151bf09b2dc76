SELECT number, id, fingerprint, state FROM idempotency
WHERE tenant = ?1 AND key = ?2 AND (expires_at IS NULL OR expires_at > ?3)
