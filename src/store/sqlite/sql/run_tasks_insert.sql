INSERT INTO run_tasks (run, number, kind) VALUES (?1, ?2, ?3)
