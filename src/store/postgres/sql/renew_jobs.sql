SELECT last_value FROM job_numbers
