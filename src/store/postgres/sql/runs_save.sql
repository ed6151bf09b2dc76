UPDATE runs SET state = $2, open = $3, failed = $4, cancelled = $5, skipped = $6, stop = $7, timed_out = $8, cancels = $9, result = $10, ends = $11, behind = $12, started_at = $13, finished_at = $14, timeout_at = $15
WHERE seq = $1
