SELECT seq, id, name, tenant, created_at, fail_fast, on_complete, timeout, limit_key, schedule_id, occurrence_id,
       scheduled_for, replay_of, reason, state, open, failed, cancelled, skipped, stop, timed_out, cancels, result, ends,
       behind, started_at, finished_at, timeout_at
FROM runs
WHERE seq < $1 AND ($2::text IS NULL OR state = $2) AND ($3::text IS NULL OR name = $3)
  AND ($4::text IS NULL OR tenant = $4) AND ($5::uuid IS NULL OR schedule_id = $5)
ORDER BY seq DESC LIMIT $6
