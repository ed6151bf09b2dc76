SELECT number, percent, text, at, result FROM job_said WHERE number = ANY($1::bigint[])
