SELECT id, name, host, pid, state, offer, slots, version, solo, started_at, heartbeat_at,
       (expires_boot <= ?2 OR boot <> ?1 AND expires_boot > ?2 + ttl) AS lost,
       (SELECT json_group_array(number) FROM leases WHERE worker = w.id) AS running,
       trouble
FROM workers w ORDER BY name, started_at
