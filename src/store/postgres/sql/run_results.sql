-- What the tasks made that these jobs need.
SELECT d.number, d.needs, s.origin
FROM job_dependencies d JOIN job_said m ON m.number = d.needs JOIN jobs j ON j.number = m.number AND j.attempt = m.attempt
JOIN job_specs s ON s.number = d.needs
WHERE d.number = ANY($1::bigint[]) AND d.needs <> d.number AND m.result IS NOT NULL AND s.origin IS NOT NULL
ORDER BY d.number, d.needs
