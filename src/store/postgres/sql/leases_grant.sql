INSERT INTO leases (number, attempt, lane, worker, worker_name, started_at, ttl, expires_at)
SELECT u.number, u.attempt, j.lane, w.id, w.name, $2, $3, $4
FROM unnest($5::bigint[], $6::integer[]) AS u(number, attempt) JOIN jobs j ON j.number = u.number
CROSS JOIN workers w WHERE w.id = $1
RETURNING number
