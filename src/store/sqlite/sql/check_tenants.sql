WITH counted AS (
    SELECT l.tenant AS name,
           sum(j.state = 'blocked' OR j.state = 'scheduled' OR j.state = 'pending' OR j.state = 'running') AS queued,
           sum(j.state = 'running') AS running
    FROM jobs j JOIN lanes l ON l.id = j.lane GROUP BY 1
)
SELECT 'tenant ' || t.name || ' counts ' || t.queued || ' queued and ' || t.running || ' running, and has '
       || coalesce(c.queued, 0) || ' and ' || coalesce(c.running, 0)
FROM tenants t LEFT JOIN counted c ON c.name = t.name
WHERE t.queued <> coalesce(c.queued, 0) OR t.running <> coalesce(c.running, 0)
LIMIT 20
