SELECT id, name, host, pid, address, version, load, draining, started_at, heartbeat_at,
       boot <> ?1 OR expires_boot <= ?2 AS lost, peers, homes
FROM nodes ORDER BY name, started_at
