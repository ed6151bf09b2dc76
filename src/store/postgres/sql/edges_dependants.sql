SELECT number, needs, until, satisfied FROM job_dependencies WHERE needs = ANY($1::bigint[]) ORDER BY number, needs
