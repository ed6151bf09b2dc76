-- Who gave many numbers in its time may have given as many since.
SELECT setval(s.sequence::regclass, s.n + least(greatest(s.n, $1::bigint), $2::bigint))
FROM (SELECT 'job_numbers' AS sequence, CASE WHEN is_called THEN last_value ELSE 0 END AS n FROM job_numbers
      UNION ALL SELECT 'events_seq_seq', CASE WHEN is_called THEN last_value ELSE 0 END FROM events_seq_seq
      UNION ALL SELECT 'runs_seq_seq', CASE WHEN is_called THEN last_value ELSE 0 END FROM runs_seq_seq) AS s
