(SELECT 'jobs' AS name, CASE WHEN is_called THEN last_value ELSE 0 END AS value FROM job_numbers
 UNION ALL SELECT 'events', CASE WHEN is_called THEN last_value ELSE 0 END FROM events_seq_seq
 UNION ALL SELECT 'runs', CASE WHEN is_called THEN last_value ELSE 0 END FROM runs_seq_seq) AS o
