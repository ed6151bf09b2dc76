INSERT INTO job_dependencies (number, needs, until, satisfied)
SELECT u.number, u.needs, u.until, u.satisfied
FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::boolean[]) AS u(number, needs, until, satisfied)
ON CONFLICT (number, needs) DO UPDATE SET satisfied = excluded.satisfied
