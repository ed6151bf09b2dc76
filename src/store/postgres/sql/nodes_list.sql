SELECT id, name, host, pid, address, version, load, draining, started_at, heartbeat_at, expires_at <= $1 AS lost, peers, homes
FROM nodes ORDER BY name, started_at
