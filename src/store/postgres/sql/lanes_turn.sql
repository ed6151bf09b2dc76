-- Each subquery is one step in an index: no lease scans jobs that it may not take. The leases of $4 are about to end.
SELECT p.id, p.queue, p.tenant, p.limit_key, p.needs,
       (SELECT count(*) FROM (SELECT 1 FROM jobs j WHERE j.state = 'pending' AND j.lane = p.id
                              ORDER BY j.priority DESC, j.number LIMIT $3) AS first_ones),
       p.queue_max - (SELECT count(*) FROM lanes o JOIN leases e ON e.lane = o.id
                      WHERE o.queue = p.queue AND e.number <> ALL($4::bigint[]) AND p.queue_max IS NOT NULL),
       p.tenant_max - (SELECT count(*) FROM lanes o JOIN leases e ON e.lane = o.id
                       WHERE o.tenant = p.tenant AND e.number <> ALL($4::bigint[]) AND p.tenant_max IS NOT NULL),
       p.key_max - (SELECT count(*) FROM lanes o JOIN leases e ON e.lane = o.id
                    WHERE o.tenant = p.tenant AND o.limit_key = p.limit_key AND e.number <> ALL($4::bigint[])
                      AND p.key_max IS NOT NULL)
FROM (
    SELECT l.id, l.queue, l.tenant, l.limit_key, l.needs, s.served, q.max_running AS queue_max,
           t.max_running AS tenant_max, k.max_running AS key_max
    FROM lanes l
    JOIN lane_turns s ON s.lane = l.id
    JOIN queues q ON q.name = l.queue
    JOIN tenants t ON t.name = l.tenant
    LEFT JOIN limits k ON k.tenant = l.tenant AND k.key = l.limit_key
    WHERE l.active AND NOT q.paused
      AND (q.max_running IS NULL OR q.max_running >
           (SELECT count(*) FROM lanes o JOIN leases e ON e.lane = o.id
            WHERE o.queue = l.queue AND e.number <> ALL($4::bigint[])))
      AND (t.max_running IS NULL OR t.max_running >
           (SELECT count(*) FROM lanes o JOIN leases e ON e.lane = o.id
            WHERE o.tenant = l.tenant AND e.number <> ALL($4::bigint[])))
      AND (k.max_running IS NULL OR k.max_running >
           (SELECT count(*) FROM lanes o JOIN leases e ON e.lane = o.id
            WHERE o.tenant = l.tenant AND o.limit_key = l.limit_key AND e.number <> ALL($4::bigint[])))
      AND (SELECT j.number FROM jobs j WHERE j.state = 'pending' AND j.lane = l.id
           ORDER BY j.priority DESC, j.number LIMIT 1) IS NOT NULL
    ORDER BY s.served, l.id LIMIT $2 OFFSET $1
) AS p ORDER BY p.served, p.id
