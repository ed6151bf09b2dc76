SELECT j.number, 'job ' || j.number, s.spec, s.captured, s.origin
FROM jobs j LEFT JOIN job_specs s ON s.number = j.number
WHERE j.number > $1 ORDER BY j.number LIMIT $2
