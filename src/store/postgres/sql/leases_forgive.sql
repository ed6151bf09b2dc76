UPDATE leases SET expires_at = CASE
    WHEN expires_at <= $1::bigint - $2::bigint THEN least(expires_at + $2, $1 + ttl)
    ELSE greatest(least(expires_at + $2, $1 + ttl), $1 + least(ttl, $3::bigint))
END
