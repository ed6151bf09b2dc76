-- Finished, old enough, nobody waits for it, its run has ended, and no dead letter unless those are meant too (S11).
SELECT j.number FROM jobs j
WHERE j.number > ?1 AND j.finished_at < ?2
  AND (?3 OR NOT EXISTS (SELECT 1 FROM dead_letters d WHERE d.number = j.number))
  AND NOT EXISTS (SELECT 1 FROM job_dependencies e JOIN jobs w ON w.number = e.number
                  WHERE e.needs = j.number AND w.finished_at IS NULL AND NOT e.satisfied)
  AND NOT EXISTS (SELECT 1 FROM run_tasks t JOIN runs r ON r.seq = t.run
                  WHERE t.number = j.number AND r.state = 'running')
ORDER BY j.number LIMIT ?4
