SELECT u.number, a.attempt, a.worker, a.started_at, a.finished_at, a.outcome, a.exit_code, a.signal, a.error
FROM unnest($1::bigint[]) AS u(number)
CROSS JOIN LATERAL (
    SELECT e.attempt, e.worker_name AS worker, e.started_at, NULL::bigint AS finished_at, NULL::text AS outcome,
           NULL::integer AS exit_code, NULL::integer AS signal, NULL::text AS error
    FROM leases e WHERE e.number = u.number
    UNION ALL
    (SELECT a.attempt, a.worker, a.started_at, a.finished_at, a.outcome, a.exit_code, a.signal, a.error
     FROM attempts a WHERE a.number = u.number ORDER BY a.attempt DESC LIMIT 1)
    ORDER BY 1 DESC LIMIT 1
) AS a
