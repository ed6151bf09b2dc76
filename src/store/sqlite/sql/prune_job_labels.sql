DELETE FROM job_labels WHERE number IN (SELECT value FROM json_each(?1))
