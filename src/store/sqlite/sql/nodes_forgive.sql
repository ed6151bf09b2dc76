UPDATE nodes SET boot = ?1, expires_boot = ?2 + ttl
