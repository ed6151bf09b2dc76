SELECT r.id, t.kind, t.number, r.started_at IS NOT NULL AND (r.timeout IS NULL OR r.timeout_at IS NOT NULL), r.timeout_at
FROM run_tasks t JOIN runs r ON r.seq = t.run WHERE t.number IN (SELECT value FROM json_each(?1))
