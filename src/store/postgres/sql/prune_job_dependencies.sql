DELETE FROM job_dependencies WHERE number = ANY($1::bigint[])
