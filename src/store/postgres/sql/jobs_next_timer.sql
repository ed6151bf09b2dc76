SELECT (SELECT min(due_at) FROM jobs WHERE state = 'scheduled'),
       (SELECT min(deadline_at) FROM jobs WHERE deadline_at IS NOT NULL AND state <> 'running'),
       (SELECT value FROM settings WHERE name = 'floor')
