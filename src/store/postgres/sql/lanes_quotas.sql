SELECT q.name, q.max_queued, q.per_minute, q.max_payload, t.name, t.max_queued, t.per_minute, t.max_payload
FROM lanes l JOIN queues q ON q.name = l.queue JOIN tenants t ON t.name = l.tenant
WHERE l.id = $1
