SELECT DISTINCT l.id, l.needs FROM run_tasks t JOIN jobs j ON j.number = t.number JOIN lanes l ON l.id = j.lane
WHERE t.run = $1 AND j.state = 'pending'
