SELECT * FROM schedule_rows WHERE id = ANY($1::uuid[]) ORDER BY next_due_at, id
