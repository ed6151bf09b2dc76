SELECT setval('job_numbers', 1, false), setval('turns', 1, false)
