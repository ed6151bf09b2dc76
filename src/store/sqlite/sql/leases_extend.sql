UPDATE leases SET boot = ?3, expires_boot = ?4, ttl = ?5 WHERE number = ?1 AND attempt = ?2
