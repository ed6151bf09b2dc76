INSERT INTO job_labels (key, value, number) VALUES (?1, ?2, ?3)
