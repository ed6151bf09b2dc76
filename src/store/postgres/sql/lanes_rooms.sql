SELECT l.id,
       q.max_running - (SELECT count(*) FROM lanes o JOIN leases e ON e.lane = o.id
                        WHERE o.queue = l.queue AND q.max_running IS NOT NULL),
       t.max_running - (SELECT count(*) FROM lanes o JOIN leases e ON e.lane = o.id
                        WHERE o.tenant = l.tenant AND t.max_running IS NOT NULL),
       k.max_running - (SELECT count(*) FROM lanes o JOIN leases e ON e.lane = o.id
                        WHERE o.tenant = l.tenant AND o.limit_key = l.limit_key AND k.max_running IS NOT NULL)
FROM lanes l
JOIN queues q ON q.name = l.queue
JOIN tenants t ON t.name = l.tenant
LEFT JOIN limits k ON k.tenant = l.tenant AND k.key = l.limit_key
WHERE l.id = ANY($1::bigint[])
