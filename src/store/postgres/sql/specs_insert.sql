INSERT INTO job_specs (number, name, spec, captured)
SELECT u.number, u.name, u.spec, u.captured
FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[]) AS u(number, name, spec, captured)
