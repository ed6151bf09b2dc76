SELECT 'the name ' || n.name || ' belongs to job ' || n.number || ', which is ' || coalesce(j.state, 'gone')
FROM names n LEFT JOIN jobs j ON j.number = n.number
WHERE j.state IS NULL OR j.finished_at IS NOT NULL
LIMIT 20
