-- As in leases_shift.sql.
UPDATE nodes SET expires_at = expires_at + $1::bigint
WHERE (expires_at - ttl > $2::bigint) = ($1::bigint < 0)
