INSERT INTO job_labels (key, value, number)
SELECT u.key, u.value, u.number FROM unnest($1::text[], $2::text[], $3::bigint[]) AS u(key, value, number)
