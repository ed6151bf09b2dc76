INSERT INTO occurrences (schedule, due_at, until, count, id, state, reason, run_id, version, recovered, backfilled,
    recorded_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
ON CONFLICT (schedule, due_at) DO NOTHING
