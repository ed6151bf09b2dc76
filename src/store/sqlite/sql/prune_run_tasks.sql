DELETE FROM run_tasks WHERE number IN (SELECT value FROM json_each(?1))
