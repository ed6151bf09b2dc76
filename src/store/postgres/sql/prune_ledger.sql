-- Old rows of ledgers, but not those that something follows from: the last of a schedule (S20), those from before it was
-- made (a backfill asks whether they are there), and those whose run has not ended.
DELETE FROM occurrences WHERE (schedule, due_at) IN (
    SELECT o.schedule, o.due_at FROM occurrences o JOIN schedules s ON s.id = o.schedule
    WHERE o.until < $1 AND o.due_at >= s.created_at
      AND o.due_at < (SELECT max(l.due_at) FROM occurrences l WHERE l.schedule = o.schedule)
      AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.id = o.run_id AND r.state = 'running')
      AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.schedule = o.schedule AND j.finished_at IS NULL
                      AND j.created_at = o.recorded_at)
    LIMIT $2)
RETURNING due_at
