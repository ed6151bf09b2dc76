INSERT INTO jobs (id, lane, state, priority, created_at, waiting, due_at, deadline_at, finished_at, reason, schedule)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
ON CONFLICT (id) DO NOTHING
