INSERT INTO workers (id, name, host, pid, state, offer, slots, version, solo, started_at, heartbeat_at, boot, expires_boot, ttl, secret_hash)
VALUES (?1, ?2, ?3, ?4, 'active', ?5, ?6, ?7, ?8, ?9, ?9, ?10, ?11, ?12, ?13)
ON CONFLICT (id) DO UPDATE SET heartbeat_at = excluded.heartbeat_at, boot = excluded.boot, expires_boot = excluded.expires_boot
RETURNING secret_hash
