SELECT id, name, host, pid, address, version, load, draining, started_at, heartbeat_at,
       (expires_boot <= ?2 OR boot <> ?1 AND expires_boot > ?2 + ttl) AS lost, peers, homes
FROM nodes ORDER BY name, started_at
