UPDATE workers SET boot = ?1, expires_boot = CASE boot
    WHEN ?1 THEN min(max(expires_boot + ?3, ?2 + ?4), ?2 + ttl)
    ELSE ?2 + ttl
END
WHERE boot <> ?1 OR expires_boot + ?3 > ?2
