SELECT seq, id, name, tenant, created_at, fail_fast, on_complete, timeout, limit_key, schedule_id, occurrence_id,
       scheduled_for, replay_of, reason, state, open, failed, cancelled, skipped, stop, timed_out, cancels, result, ends,
       behind, started_at, finished_at, timeout_at
FROM runs WHERE id = $1
