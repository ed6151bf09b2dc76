UPDATE workers SET expires_at = $1 + ttl
