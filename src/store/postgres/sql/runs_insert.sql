INSERT INTO runs (id, name, tenant, created_at, fail_fast, on_complete, timeout, limit_key, schedule_id, occurrence_id,
       scheduled_for, replay_of, reason, state, open, failed, cancelled, skipped, stop, timed_out, cancels, result, ends,
       behind, started_at, finished_at, timeout_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27)
ON CONFLICT (id) DO NOTHING
RETURNING seq
