-- Of runs of which nothing is left.
DELETE FROM run_specs
WHERE seq IN (SELECT run FROM run_tasks WHERE number = ANY($1::bigint[]))
  AND NOT EXISTS (SELECT 1 FROM run_tasks t WHERE t.run = run_specs.seq AND t.number <> ALL($1::bigint[]))
