SELECT l.id, l.queue, l.tenant, l.limit_key, l.needs, l.pending,
       q.max_running - q.running, t.max_running - t.running, k.max_running - k.running
FROM lanes l
JOIN queues q ON q.name = l.queue
JOIN tenants t ON t.name = l.tenant
LEFT JOIN limits k ON k.tenant = l.tenant AND k.key = l.limit_key
WHERE l.pending > 0 AND NOT q.paused
  AND (q.max_running IS NULL OR q.max_running > q.running)
  AND (t.max_running IS NULL OR t.max_running > t.running)
  AND (k.max_running IS NULL OR k.max_running > k.running)
ORDER BY l.served, l.id LIMIT ?2 OFFSET ?1
