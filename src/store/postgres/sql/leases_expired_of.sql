-- Whoever renews locks leases only: what is renewed at this moment is left to it.
SELECT number, attempt, worker, worker_name, started_at, cancel, secret_hash FROM leases
WHERE number = ANY($1::bigint[]) AND expires_at <= $2 ORDER BY number FOR NO KEY UPDATE SKIP LOCKED
