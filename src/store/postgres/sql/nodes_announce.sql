INSERT INTO nodes (id, name, host, pid, address, version, load, draining, started_at, heartbeat_at, ttl, expires_at, peers, homes)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $10, $11, $12, $13)
ON CONFLICT (id) DO UPDATE SET address = excluded.address, load = excluded.load, draining = nodes.draining OR excluded.draining,
    peers = excluded.peers, homes = excluded.homes, heartbeat_at = excluded.heartbeat_at, expires_at = excluded.expires_at
RETURNING draining
