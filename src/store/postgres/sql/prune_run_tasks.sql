DELETE FROM run_tasks WHERE number = ANY($1::bigint[])
