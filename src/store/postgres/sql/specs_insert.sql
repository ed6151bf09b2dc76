INSERT INTO job_specs (number, name, spec, captured, origin)
SELECT u.number, u.name, u.spec, u.captured, u.origin
FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[]) AS u(number, name, spec, captured, origin)
