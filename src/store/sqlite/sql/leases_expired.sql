SELECT number, attempt, worker, worker_name, started_at, cancel FROM leases
WHERE boot <> ?1 OR expires_boot <= ?2 ORDER BY number LIMIT ?3
