INSERT INTO job_specs (number, name, spec, captured, origin) VALUES (?1, ?2, ?3, ?4, ?5)
