SELECT number FROM job_labels WHERE key = $1 AND value = $2 ORDER BY number LIMIT $3
