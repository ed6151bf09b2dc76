SELECT number FROM jobs WHERE deadline_at IS NOT NULL AND state <> 'running' AND deadline_at <= $1
ORDER BY deadline_at LIMIT $2
