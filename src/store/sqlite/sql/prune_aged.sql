-- The next jobs, and whether each may be forgotten: as in prune_find, but it looks at so many and no more.
SELECT j.number, j.created_at,
       coalesce(j.finished_at < ?2, false)
   AND NOT EXISTS (SELECT 1 FROM dead_letters d WHERE d.number = j.number)
   AND NOT EXISTS (SELECT 1 FROM job_dependencies e JOIN jobs w ON w.number = e.number
                   WHERE e.needs = j.number AND w.finished_at IS NULL AND NOT e.satisfied)
   AND NOT EXISTS (SELECT 1 FROM run_tasks t JOIN runs r ON r.seq = t.run
                   WHERE t.number = j.number AND r.state = 'running')
FROM (SELECT number, created_at, finished_at FROM jobs WHERE number > ?1 ORDER BY number LIMIT ?3) j
ORDER BY j.number
