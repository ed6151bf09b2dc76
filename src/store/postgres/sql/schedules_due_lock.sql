-- Whoever else looks at this moment takes others.
SELECT id FROM schedules WHERE next_due_at <= $1 ORDER BY next_due_at LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED
