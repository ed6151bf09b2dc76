SELECT schedule, due_at, until, count, id, reason, run_id, version, recovered, backfilled FROM occurrences
WHERE schedule = $1 AND due_at <= $3 AND until >= $2 ORDER BY due_at DESC LIMIT $4
