-- With whether its queue or tenant has limits of what may be submitted.
SELECT l.id, num_nonnulls(q.max_queued, q.per_minute, q.max_payload, t.max_queued, t.per_minute, t.max_payload) > 0
FROM lanes l JOIN queues q ON q.name = l.queue JOIN tenants t ON t.name = l.tenant
WHERE l.queue = $1 AND l.tenant = $2 AND l.limit_key = $3 AND l.needs = $4
