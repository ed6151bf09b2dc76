SELECT r.id, t.kind FROM run_tasks t JOIN runs r ON r.seq = t.run WHERE t.number = $1
