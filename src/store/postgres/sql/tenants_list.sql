SELECT t.name, t.max_running, t.max_queued, t.per_minute, t.max_payload,
       coalesce(sum(c.blocked + c.scheduled + c.pending + c.running), 0)::bigint, coalesce(sum(c.running), 0)::bigint
FROM tenants t LEFT JOIN lanes l ON l.tenant = t.name LEFT JOIN lane_counts c ON c.lane = l.id
GROUP BY t.name ORDER BY t.name
