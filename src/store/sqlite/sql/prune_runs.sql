DELETE FROM runs
WHERE seq IN (SELECT run FROM run_tasks WHERE number IN (SELECT value FROM json_each(?1)))
  AND NOT EXISTS (SELECT 1 FROM run_tasks t WHERE t.run = runs.seq AND t.number NOT IN (SELECT value FROM json_each(?1)))
