SELECT DISTINCT needs FROM job_dependencies WHERE needs = ANY($1::bigint[])
