SELECT min(at) FROM (
    SELECT min(due_at) AS at FROM jobs WHERE state = 'scheduled'
    UNION ALL
    SELECT min(deadline_at) FROM jobs WHERE deadline_at IS NOT NULL AND state <> 'running')
