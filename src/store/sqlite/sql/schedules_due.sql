SELECT * FROM schedule_rows WHERE next_due_at <= ?1 ORDER BY next_due_at LIMIT ?2
