UPDATE lanes SET active = true WHERE id IN (SELECT lane FROM jobs WHERE state = 'pending');
INSERT INTO lane_totals (lane, blocked, scheduled, pending, running, done, failed, cancelled, skipped)
SELECT lane, count(*) FILTER (WHERE state = 'blocked'), count(*) FILTER (WHERE state = 'scheduled'),
       count(*) FILTER (WHERE state = 'pending'), count(*) FILTER (WHERE state = 'running'),
       count(*) FILTER (WHERE state = 'done'), count(*) FILTER (WHERE state = 'failed'),
       count(*) FILTER (WHERE state = 'cancelled'), count(*) FILTER (WHERE state = 'skipped')
FROM jobs GROUP BY lane
ON CONFLICT (lane) DO UPDATE SET blocked = excluded.blocked, scheduled = excluded.scheduled,
    pending = excluded.pending, running = excluded.running, done = excluded.done, failed = excluded.failed,
    cancelled = excluded.cancelled, skipped = excluded.skipped;
SELECT setval(pg_get_serial_sequence('lanes', 'id')::regclass, max(id)) FROM lanes HAVING max(id) > 0;
SELECT setval('turns', max(served)) FROM lane_turns HAVING max(served) > 0
