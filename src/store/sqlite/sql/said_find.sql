SELECT percent, text, at, result FROM job_said WHERE number = ?1
