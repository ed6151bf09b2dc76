DELETE FROM job_specs WHERE number = ANY($1::bigint[])
