-- The next timers, and beside them the first lanes in turn, as lanes_turn.sql finds them where no limit is. One row that
-- names a limit says that this is not so. Each lateral LIMIT has its rows found one by one.
SELECT t.due, t.deadline, p.id, p.queue, p.tenant, p.limit_key, p.needs, p.pending, p.limited
FROM (SELECT (SELECT due_at FROM jobs WHERE state = 'scheduled' ORDER BY due_at, number LIMIT 1) AS due,
             (SELECT deadline_at FROM jobs WHERE deadline_at IS NOT NULL AND state <> 'running'
              ORDER BY deadline_at LIMIT 1) AS deadline) AS t
LEFT JOIN (
    SELECT l.id, l.queue, l.tenant, l.limit_key, l.needs,
           (SELECT count(*) FROM (SELECT 1 FROM jobs j WHERE j.state = 'pending' AND j.lane = l.id
                                  ORDER BY j.priority DESC, j.number LIMIT $2) AS first_ones) AS pending,
           r.limited OR l.limit_key <> '' AS limited
    FROM lanes l
    JOIN lane_turns s ON s.lane = l.id
    CROSS JOIN LATERAL (SELECT q.paused, num_nonnulls(q.max_running, t.max_running) > 0 AS limited
                        FROM queues q CROSS JOIN tenants t
                        WHERE q.name = l.queue AND t.name = l.tenant LIMIT 1) AS r
    WHERE l.active AND NOT r.paused
      AND (SELECT j.number FROM jobs j WHERE j.state = 'pending' AND j.lane = l.id
           ORDER BY j.priority DESC, j.number LIMIT 1) IS NOT NULL
    ORDER BY s.served, l.id LIMIT $1
) AS p ON true
