-- As leases_keep.sql, for those who only see to it that they are not ended meanwhile: they are in the way of no renewal.
SELECT e.number, e.attempt, e.worker, e.worker_name, e.started_at, e.cancel, e.secret_hash
FROM unnest($1::bigint[], $2::integer[]) AS u(number, attempt)
JOIN leases e ON e.number = u.number AND e.attempt = u.attempt
ORDER BY e.number FOR KEY SHARE OF e SKIP LOCKED
