-- Of runs of which nothing is left.
DELETE FROM run_specs
WHERE seq IN (SELECT run FROM run_tasks WHERE number IN (SELECT value FROM json_each(?1)))
  AND NOT EXISTS (SELECT 1 FROM run_tasks t WHERE t.run = run_specs.seq AND t.number NOT IN (SELECT value FROM json_each(?1)))
