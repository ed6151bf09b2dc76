SELECT number FROM jobs
WHERE deadline_at IS NOT NULL AND state IN ('blocked','scheduled','pending') AND deadline_at <= ?1
ORDER BY deadline_at LIMIT ?2
