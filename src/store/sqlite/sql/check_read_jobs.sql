SELECT j.number, 'job ' || j.number, s.spec, s.captured, s.origin
FROM jobs j LEFT JOIN job_specs s ON s.number = j.number
ORDER BY j.number
