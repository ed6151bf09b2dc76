SELECT l.id, l.queue, l.tenant, l.needs, l.blocked, l.scheduled, l.pending, l.running, q.paused
FROM lanes l JOIN queues q ON q.name = l.queue
WHERE l.blocked + l.scheduled + l.pending + l.running > 0
ORDER BY l.id LIMIT ?1
