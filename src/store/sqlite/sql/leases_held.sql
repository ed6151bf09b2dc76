SELECT number, attempt, worker, worker_name, started_at, cancel, secret_hash FROM leases
WHERE number = ?1 AND attempt = ?2
