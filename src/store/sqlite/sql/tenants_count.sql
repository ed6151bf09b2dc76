UPDATE tenants SET queued = queued + ?2, running = running + ?3 WHERE name = ?1
