SELECT d.number, d.needs, d.until, d.satisfied, j.state
FROM job_dependencies d LEFT JOIN jobs j ON j.number = d.needs
WHERE d.number = $1 ORDER BY d.needs
