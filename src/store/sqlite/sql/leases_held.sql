SELECT number, attempt, worker, worker_name, started_at, cancel FROM leases
WHERE number = ?1 AND attempt = ?2
