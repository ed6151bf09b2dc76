INSERT INTO leases (number, attempt, worker, worker_name, started_at, boot, expires_boot, ttl)
SELECT ?1, ?2, w.id, w.name, ?4, ?5, ?6, ?7 FROM workers w WHERE w.id = ?3
