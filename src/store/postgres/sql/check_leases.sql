SELECT 'job ' || j.number || ' is ' || j.state || ' in attempt ' || j.attempt || ', and its lease is for '
       || coalesce(l.attempt::text, 'none')
FROM jobs j LEFT JOIN leases l ON l.number = j.number
WHERE (j.state = 'running' AND (l.attempt IS NULL OR l.attempt <> j.attempt)) OR (j.state <> 'running' AND l.number IS NOT NULL)
UNION ALL
SELECT 'a lease is for job ' || number || ', which does not exist' FROM leases l
WHERE NOT EXISTS (SELECT 1 FROM jobs j WHERE j.number = l.number)
LIMIT 20
