DELETE FROM job_specs WHERE number IN (SELECT value FROM json_each(?1))
