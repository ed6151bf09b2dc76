WITH counted AS (
    SELECT l.queue AS name, j.state AS state, count(*) AS n FROM jobs j JOIN lanes l ON l.id = j.lane GROUP BY 1, 2
), told AS (
    SELECT name, 'blocked' AS state, blocked AS n FROM queues
    UNION ALL SELECT name, 'scheduled', scheduled FROM queues
    UNION ALL SELECT name, 'pending', pending FROM queues
    UNION ALL SELECT name, 'running', running FROM queues
    UNION ALL SELECT name, 'done', done FROM queues
    UNION ALL SELECT name, 'failed', failed FROM queues
    UNION ALL SELECT name, 'cancelled', cancelled FROM queues
    UNION ALL SELECT name, 'skipped', skipped FROM queues
)
SELECT 'queue ' || told.name || ' counts ' || told.n || ' ' || told.state || ', and has ' || coalesce(counted.n, 0)
FROM told LEFT JOIN counted ON counted.name = told.name AND counted.state = told.state
WHERE told.n <> coalesce(counted.n, 0)
LIMIT 20
