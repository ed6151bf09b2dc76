SELECT id, name, host, pid, state, offer, slots, version, solo, started_at, heartbeat_at,
       boot <> ?1 OR expires_boot <= ?2 AS lost,
       (SELECT json_group_array(number) FROM leases WHERE worker = w.id) AS running
FROM workers w ORDER BY name, started_at
