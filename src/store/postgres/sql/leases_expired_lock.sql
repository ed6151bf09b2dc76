SELECT number FROM jobs
WHERE number = ANY(ARRAY(SELECT number FROM leases WHERE expires_at <= $1 ORDER BY number LIMIT $2))
ORDER BY number FOR NO KEY UPDATE SKIP LOCKED
