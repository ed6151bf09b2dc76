SELECT t.number, t.kind FROM run_tasks t JOIN jobs j ON j.number = t.number
WHERE t.run = ?1 AND j.finished_at IS NULL ORDER BY t.number
