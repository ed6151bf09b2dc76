INSERT INTO submissions (scope, name, at, count)
SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[])
ON CONFLICT (scope, name, at) DO UPDATE SET count = submissions.count + excluded.count
