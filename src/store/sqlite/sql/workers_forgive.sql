UPDATE workers SET boot = ?1, expires_boot = ?2 + ttl
