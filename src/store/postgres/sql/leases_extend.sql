UPDATE leases e SET ttl = $1, expires_at = $2
FROM unnest($3::bigint[], $4::integer[]) AS u(number, attempt)
WHERE e.number = u.number AND e.attempt = u.attempt
