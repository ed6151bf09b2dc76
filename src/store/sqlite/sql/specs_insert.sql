INSERT INTO job_specs (number, spec, captured, origin) VALUES (?1, ?2, ?3, ?4)
