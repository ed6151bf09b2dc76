SELECT attempt, worker, started_at, finished_at, outcome, exit_code, signal, error
FROM attempts WHERE number = ?1 ORDER BY attempt DESC LIMIT 1
