-- In one order, so that nobody waits in a circle.
SELECT seq FROM runs WHERE seq IN (SELECT run FROM run_tasks WHERE number = ANY($1::bigint[])) ORDER BY seq
FOR NO KEY UPDATE
