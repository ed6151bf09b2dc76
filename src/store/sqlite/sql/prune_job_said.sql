DELETE FROM job_said WHERE number IN (SELECT value FROM json_each(?1))
