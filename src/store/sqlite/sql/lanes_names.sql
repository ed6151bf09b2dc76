SELECT l.queue, l.tenant, l.limit_key, q.max_running IS NOT NULL OR t.max_running IS NOT NULL
FROM lanes l JOIN queues q ON q.name = l.queue JOIN tenants t ON t.name = l.tenant
WHERE l.id = ?1
