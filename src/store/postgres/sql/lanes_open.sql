SELECT l.id, l.queue, l.tenant, l.needs, c.blocked, c.scheduled, c.pending, c.running, q.paused
FROM lanes l
JOIN queues q ON q.name = l.queue
JOIN (SELECT lane, sum(blocked)::bigint AS blocked, sum(scheduled)::bigint AS scheduled, sum(pending)::bigint AS pending,
             sum(running)::bigint AS running
      FROM lane_counts GROUP BY lane) AS c ON c.lane = l.id
WHERE c.blocked + c.scheduled + c.pending + c.running > 0
ORDER BY l.id LIMIT $1
