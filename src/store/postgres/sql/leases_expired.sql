SELECT number, attempt, worker, worker_name, started_at, cancel, secret_hash FROM leases
WHERE expires_at <= $1 ORDER BY number LIMIT $2
