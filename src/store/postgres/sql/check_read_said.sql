SELECT number, 'what job ' || number || ' said', result
FROM job_said
WHERE result IS NOT NULL AND number > $1 ORDER BY number LIMIT $2
