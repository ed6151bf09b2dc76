SELECT min(next_due_at) FROM schedules WHERE next_due_at IS NOT NULL
