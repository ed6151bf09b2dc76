-- What somebody has locked is passed over: it would hold up all others.
UPDATE workers SET expires_at = least(greatest(expires_at + $2::bigint, $1::bigint + $3::bigint), $1::bigint + ttl)
WHERE id = ANY(ARRAY(SELECT id FROM workers WHERE expires_at + $2::bigint > $1::bigint FOR NO KEY UPDATE SKIP LOCKED))
