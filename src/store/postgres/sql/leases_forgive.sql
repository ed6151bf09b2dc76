UPDATE leases SET expires_at = $1 + ttl
