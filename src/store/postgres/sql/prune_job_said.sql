DELETE FROM job_said WHERE number = ANY($1::bigint[])
