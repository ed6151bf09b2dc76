SELECT q.name, q.paused, q.max_running, q.max_queued, q.per_minute, q.max_payload,
       coalesce(sum(c.blocked), 0)::bigint, coalesce(sum(c.scheduled), 0)::bigint, coalesce(sum(c.pending), 0)::bigint,
       coalesce(sum(c.running), 0)::bigint, coalesce(sum(c.done), 0)::bigint, coalesce(sum(c.failed), 0)::bigint,
       coalesce(sum(c.cancelled), 0)::bigint, coalesce(sum(c.skipped), 0)::bigint, q.shared
FROM queues q LEFT JOIN lanes l ON l.queue = q.name AND ($1::text IS NULL OR l.tenant = $1)
LEFT JOIN lane_counts c ON c.lane = l.id
GROUP BY q.name HAVING $1::text IS NULL OR count(l.id) > 0 ORDER BY q.name
