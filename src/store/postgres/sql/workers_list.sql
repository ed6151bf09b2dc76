SELECT id, name, host, pid, state, offer, slots, version, solo, started_at, heartbeat_at, expires_at <= $1 AS lost,
       ARRAY(SELECT number FROM leases WHERE worker = w.id ORDER BY number) AS running,
       trouble
FROM workers w ORDER BY name, started_at
