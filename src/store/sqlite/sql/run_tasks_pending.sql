SELECT j.number, j.lane FROM run_tasks t JOIN jobs j ON j.number = t.number
WHERE t.run = ?1 AND j.state = 'pending' AND j.lane IN (SELECT value FROM json_each(?3))
ORDER BY j.priority DESC, j.number LIMIT ?2
