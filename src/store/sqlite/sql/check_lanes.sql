WITH counted AS (
    SELECT lane, state, count(*) AS n FROM jobs GROUP BY 1, 2
), told AS (
    SELECT id, 'blocked' AS state, blocked AS n FROM lanes
    UNION ALL SELECT id, 'scheduled', scheduled FROM lanes
    UNION ALL SELECT id, 'pending', pending FROM lanes
    UNION ALL SELECT id, 'running', running FROM lanes
    UNION ALL SELECT id, 'done', done FROM lanes
    UNION ALL SELECT id, 'failed', failed FROM lanes
    UNION ALL SELECT id, 'cancelled', cancelled FROM lanes
    UNION ALL SELECT id, 'skipped', skipped FROM lanes
)
SELECT 'lane ' || told.id || ' counts ' || told.n || ' ' || told.state || ', and has ' || coalesce(counted.n, 0)
FROM told LEFT JOIN counted ON counted.lane = told.id AND counted.state = told.state
WHERE told.n <> coalesce(counted.n, 0)
LIMIT 20
