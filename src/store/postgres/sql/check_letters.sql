SELECT 'job ' || d.number || ' has a dead letter, and is ' || coalesce(j.state, 'gone')
FROM dead_letters d LEFT JOIN jobs j ON j.number = d.number
WHERE j.state IS NULL OR j.state <> 'failed'
LIMIT 20
