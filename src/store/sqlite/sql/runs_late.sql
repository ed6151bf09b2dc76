SELECT id FROM runs WHERE timeout_at <= ?1 ORDER BY timeout_at LIMIT ?2
