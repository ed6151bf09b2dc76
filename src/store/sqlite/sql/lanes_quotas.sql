SELECT q.name, q.max_queued, q.blocked + q.scheduled + q.pending + q.running, t.name, t.max_queued, t.queued
FROM lanes l JOIN queues q ON q.name = l.queue JOIN tenants t ON t.name = l.tenant
WHERE l.id = ?1
