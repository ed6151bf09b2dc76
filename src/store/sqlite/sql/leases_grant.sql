-- Hashes are compared here: nobody can choose one, so that how long it takes tells nothing of a secret.
INSERT INTO leases (number, attempt, worker, worker_name, started_at, boot, expires_boot, ttl, secret_hash)
SELECT ?1, ?2, w.id, w.name, ?4, ?5, ?6, ?7, w.secret_hash FROM workers w WHERE w.id = ?3 AND w.secret_hash = ?8
