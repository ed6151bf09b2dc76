WITH counted AS (SELECT lane, state, count(*) AS n FROM jobs GROUP BY 1, 2)
UPDATE lanes SET
    blocked = coalesce((SELECT n FROM counted c WHERE c.lane = lanes.id AND c.state = 'blocked'), 0),
    scheduled = coalesce((SELECT n FROM counted c WHERE c.lane = lanes.id AND c.state = 'scheduled'), 0),
    pending = coalesce((SELECT n FROM counted c WHERE c.lane = lanes.id AND c.state = 'pending'), 0),
    running = coalesce((SELECT n FROM counted c WHERE c.lane = lanes.id AND c.state = 'running'), 0),
    done = coalesce((SELECT n FROM counted c WHERE c.lane = lanes.id AND c.state = 'done'), 0),
    failed = coalesce((SELECT n FROM counted c WHERE c.lane = lanes.id AND c.state = 'failed'), 0),
    cancelled = coalesce((SELECT n FROM counted c WHERE c.lane = lanes.id AND c.state = 'cancelled'), 0),
    skipped = coalesce((SELECT n FROM counted c WHERE c.lane = lanes.id AND c.state = 'skipped'), 0);
WITH counted AS (
    SELECT l.queue AS name, j.state AS state, count(*) AS n FROM jobs j JOIN lanes l ON l.id = j.lane GROUP BY 1, 2
)
UPDATE queues SET
    blocked = coalesce((SELECT n FROM counted c WHERE c.name = queues.name AND c.state = 'blocked'), 0),
    scheduled = coalesce((SELECT n FROM counted c WHERE c.name = queues.name AND c.state = 'scheduled'), 0),
    pending = coalesce((SELECT n FROM counted c WHERE c.name = queues.name AND c.state = 'pending'), 0),
    done = coalesce((SELECT n FROM counted c WHERE c.name = queues.name AND c.state = 'done'), 0),
    failed = coalesce((SELECT n FROM counted c WHERE c.name = queues.name AND c.state = 'failed'), 0),
    cancelled = coalesce((SELECT n FROM counted c WHERE c.name = queues.name AND c.state = 'cancelled'), 0),
    skipped = coalesce((SELECT n FROM counted c WHERE c.name = queues.name AND c.state = 'skipped'), 0);
UPDATE tenants SET queued = (
    SELECT count(*) FROM lanes l JOIN jobs j ON j.lane = l.id
    WHERE l.tenant = tenants.name AND j.finished_at IS NULL);
