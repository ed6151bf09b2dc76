INSERT INTO run_tasks (run, number, kind)
SELECT $1, u.number, u.kind FROM unnest($2::bigint[], $3::text[]) AS u(number, kind)
