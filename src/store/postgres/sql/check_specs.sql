SELECT 'job ' || j.number || ' has no description' FROM jobs j
WHERE NOT EXISTS (SELECT 1 FROM job_specs s WHERE s.number = j.number) LIMIT 20
