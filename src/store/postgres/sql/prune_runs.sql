DELETE FROM runs
WHERE seq IN (SELECT run FROM run_tasks WHERE number = ANY($1::bigint[]))
  AND NOT EXISTS (SELECT 1 FROM run_tasks t WHERE t.run = runs.seq AND t.number <> ALL($1::bigint[]))
