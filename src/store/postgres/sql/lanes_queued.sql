SELECT coalesce(sum(c.blocked + c.scheduled + c.pending + c.running), 0)::bigint
FROM lanes l JOIN lane_counts c ON c.lane = l.id
WHERE ($1::text IS NULL OR l.queue = $1) AND ($2::text IS NULL OR l.tenant = $2)
