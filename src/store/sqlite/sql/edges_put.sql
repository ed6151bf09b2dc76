INSERT INTO job_dependencies (number, needs, until, satisfied) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (number, needs) DO UPDATE SET satisfied = excluded.satisfied
