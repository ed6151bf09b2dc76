-- Only what was given before the clock jumped by $1: after a jump back that lies far ahead of the clock, after one
-- forward far behind it. $2 is half of the way.
UPDATE leases SET expires_at = expires_at + $1::bigint
WHERE (expires_at - ttl > $2::bigint) = ($1::bigint < 0)
