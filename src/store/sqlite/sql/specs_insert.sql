INSERT INTO job_specs (number, spec, captured) VALUES (?1, ?2, ?3)
