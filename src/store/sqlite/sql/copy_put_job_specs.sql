INSERT INTO job_specs (number, spec, captured, origin) VALUES (?1, ?3, ?4, ?5)
