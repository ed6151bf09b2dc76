-- What begin.sql and jobs_lock.sql do; whether that took so long that what stands beside it is old; the next timers; and
-- the first lanes in turn, as lanes_turn.sql finds them where no limit is, but with those that nobody has found idle yet;
-- and the floor of attempts.
-- One row that names a limit says that there is one. Each lateral LIMIT has its rows found one by one.
SELECT t.*, p.id, p.queue, p.tenant, p.limit_key, p.needs, p.pending, p.limited,
       (SELECT value FROM settings WHERE name = 'floor')
FROM (SELECT clock_ms(), txid_current(), pg_advisory_xact_lock_shared(hashtext(current_schema()),
                 ((CASE WHEN is_called THEN last_value ELSE last_value - 1 END) & 2147483647)::integer),
             ARRAY(SELECT number FROM jobs WHERE number = ANY($1::bigint[]) ORDER BY number FOR NO KEY UPDATE),
             clock_timestamp() > statement_timestamp() + interval '10 ms',
             (SELECT due_at FROM jobs WHERE state = 'scheduled' ORDER BY due_at, number LIMIT 1),
             (SELECT deadline_at FROM jobs WHERE deadline_at IS NOT NULL AND state <> 'running'
              ORDER BY deadline_at LIMIT 1)
      FROM events_seq_seq) AS t
LEFT JOIN (
    SELECT l.id, l.queue, l.tenant, l.limit_key, l.needs,
           (SELECT count(*) FROM (SELECT 1 FROM jobs j WHERE j.state = 'pending' AND j.lane = l.id
                                  ORDER BY j.priority DESC, j.number LIMIT $3) AS first_ones) AS pending,
           r.limited OR l.limit_key <> '' AS limited
    FROM lanes l
    JOIN lane_turns s ON s.lane = l.id
    CROSS JOIN LATERAL (SELECT q.paused, num_nonnulls(q.max_running, t.max_running) > 0 AS limited
                        FROM queues q CROSS JOIN tenants t
                        WHERE q.name = l.queue AND t.name = l.tenant LIMIT 1) AS r
    WHERE l.active AND NOT r.paused
    ORDER BY s.served, l.id LIMIT $2
) AS p ON true
