SELECT number, attempt, worker, worker_name, started_at, cancel, secret_hash FROM leases
WHERE worker = ?1 ORDER BY number
