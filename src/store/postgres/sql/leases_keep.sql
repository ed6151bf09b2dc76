-- Locks the leases, and not their jobs: what somebody else wants of a job is no reason to lose it. Those that are being
-- ended at this moment are left out.
SELECT e.number, e.attempt, e.worker, e.worker_name, e.started_at, e.cancel, e.secret_hash
FROM unnest($1::bigint[], $2::integer[]) AS u(number, attempt)
JOIN leases e ON e.number = u.number AND e.attempt = u.attempt
ORDER BY e.number FOR NO KEY UPDATE OF e SKIP LOCKED
