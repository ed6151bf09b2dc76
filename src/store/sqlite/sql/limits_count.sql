UPDATE limits SET running = running + ?3 WHERE tenant = ?1 AND key = ?2
