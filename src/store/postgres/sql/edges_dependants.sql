SELECT number, needs, until, satisfied FROM job_dependencies WHERE needs = $1 ORDER BY number
