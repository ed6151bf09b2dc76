-- What ends later than a lease given now was given before the machine started; another boot id alone shows nothing (S1).
SELECT number, attempt, worker, worker_name, started_at, cancel, secret_hash FROM leases
WHERE expires_boot <= ?2 OR boot <> ?1 AND expires_boot > ?2 + ttl ORDER BY number LIMIT ?3
