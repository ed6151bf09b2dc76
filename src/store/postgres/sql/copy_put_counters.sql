SELECT setval((CASE u.name WHEN 'jobs' THEN 'job_numbers' WHEN 'events' THEN 'events_seq_seq' ELSE 'runs_seq_seq' END)::regclass,
    u.value)
FROM unnest($1::text[], $2::bigint[]) AS u(name, value) WHERE u.value > 0
