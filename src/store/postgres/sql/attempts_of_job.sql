SELECT attempt, worker, started_at, finished_at, outcome, exit_code, signal, error FROM attempts WHERE number = $1
UNION ALL
SELECT attempt, worker_name, started_at, NULL, NULL, NULL, NULL, NULL FROM leases WHERE number = $1
ORDER BY 1
