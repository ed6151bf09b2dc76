UPDATE nodes SET boot = ?1, expires_boot = CASE
    WHEN boot <> ?1 THEN ?2 + ttl
    WHEN expires_boot <= ?2 - ?3 THEN min(expires_boot + ?3, ?2 + ttl)
    ELSE max(min(expires_boot + ?3, ?2 + ttl), ?2 + min(ttl, ?4))
END
