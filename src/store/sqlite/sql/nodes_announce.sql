INSERT INTO nodes (id, name, host, pid, address, version, load, draining, started_at, heartbeat_at, ttl, boot, expires_boot, peers, homes)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?9, ?10, ?11, ?12, ?13, ?14)
ON CONFLICT (id) DO UPDATE SET address = excluded.address, load = excluded.load, draining = max(draining, excluded.draining),
    peers = excluded.peers, homes = excluded.homes, heartbeat_at = excluded.heartbeat_at, boot = excluded.boot, expires_boot = excluded.expires_boot
RETURNING draining
