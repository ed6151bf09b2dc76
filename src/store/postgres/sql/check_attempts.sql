SELECT 'job ' || a.number || ' has an ended attempt ' || a.attempt || ', and its fence is ' || coalesce(j.attempt::text, 'gone')
FROM attempts a LEFT JOIN jobs j ON j.number = a.number
WHERE j.number IS NULL OR a.attempt > j.attempt OR (a.attempt = j.attempt AND j.state = 'running')
LIMIT 20
