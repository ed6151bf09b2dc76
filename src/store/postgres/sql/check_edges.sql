SELECT 'job ' || j.number || ' waits for ' || j.waiting || ' jobs, and has '
       || (SELECT count(*) FROM job_dependencies d WHERE d.number = j.number AND NOT d.satisfied) || ' open edges'
FROM jobs j
WHERE j.state = 'blocked'
  AND j.waiting <> (SELECT count(*) FROM job_dependencies d WHERE d.number = j.number AND NOT d.satisfied)
LIMIT 20
