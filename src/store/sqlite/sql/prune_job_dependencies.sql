DELETE FROM job_dependencies WHERE number IN (SELECT value FROM json_each(?1))
