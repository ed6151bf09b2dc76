SELECT q.name, q.max_queued, t.name, t.max_queued
FROM lanes l JOIN queues q ON q.name = l.queue JOIN tenants t ON t.name = l.tenant
WHERE l.id = $1
