UPDATE nodes SET expires_at = $1 + ttl
