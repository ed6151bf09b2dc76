SELECT max(at) FROM (
    SELECT max(expires_boot - ttl) AS at FROM leases WHERE boot = ?1
    UNION ALL SELECT max(expires_boot - ttl) FROM workers WHERE boot = ?1
    UNION ALL SELECT max(expires_boot - ttl) FROM nodes WHERE boot = ?1
)
