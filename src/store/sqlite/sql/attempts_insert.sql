INSERT INTO attempts (number, attempt, worker, started_at, finished_at, outcome, exit_code, signal, error)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
