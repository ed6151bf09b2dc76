SELECT t.number, t.kind FROM run_tasks t WHERE t.run = $1 ORDER BY t.number
