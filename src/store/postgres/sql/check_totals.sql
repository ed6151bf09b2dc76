WITH counted AS (
    SELECT lane, state, count(*) AS n FROM jobs GROUP BY 1, 2
), told AS (
    SELECT c.lane, s.state, sum(s.n) AS n
    FROM lane_counts c CROSS JOIN LATERAL (VALUES ('blocked', c.blocked), ('scheduled', c.scheduled),
        ('pending', c.pending), ('running', c.running), ('done', c.done), ('failed', c.failed),
        ('cancelled', c.cancelled), ('skipped', c.skipped)) AS s(state, n)
    GROUP BY 1, 2
)
SELECT 'lane ' || coalesce(told.lane, counted.lane) || ' counts ' || coalesce(told.n, 0) || ' '
       || coalesce(told.state, counted.state) || ', and has ' || coalesce(counted.n, 0)
FROM told FULL JOIN counted ON counted.lane = told.lane AND counted.state = told.state
WHERE coalesce(told.n, 0) <> coalesce(counted.n, 0)
LIMIT 20
