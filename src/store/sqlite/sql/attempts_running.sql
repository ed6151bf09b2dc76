SELECT attempt, worker_name, started_at, NULL, NULL, NULL, NULL, NULL FROM leases WHERE number = ?1
