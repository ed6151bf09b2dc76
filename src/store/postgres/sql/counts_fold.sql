WITH gone AS (
    DELETE FROM lane_deltas WHERE ctid = ANY(ARRAY(SELECT ctid FROM lane_deltas LIMIT $1)) RETURNING *
)
INSERT INTO lane_totals AS t
SELECT lane, sum(blocked), sum(scheduled), sum(pending), sum(running), sum(done), sum(failed), sum(cancelled),
       sum(skipped), sum(pruned)
FROM gone GROUP BY lane
ON CONFLICT (lane) DO UPDATE SET blocked = t.blocked + excluded.blocked, scheduled = t.scheduled + excluded.scheduled,
    pending = t.pending + excluded.pending, running = t.running + excluded.running, done = t.done + excluded.done,
    failed = t.failed + excluded.failed, cancelled = t.cancelled + excluded.cancelled,
    skipped = t.skipped + excluded.skipped, pruned = t.pruned + excluded.pruned
