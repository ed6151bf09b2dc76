DELETE FROM leases e USING unnest($1::bigint[], $2::integer[]) AS u(number, attempt)
WHERE e.number = u.number AND e.attempt = u.attempt
