UPDATE leases SET expires_at = least(greatest(expires_at + $2::bigint, $1::bigint + $3::bigint), $1::bigint + ttl)
WHERE expires_at + $2::bigint > $1::bigint
