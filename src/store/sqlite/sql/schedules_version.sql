INSERT INTO schedule_versions (schedule, version, definition) VALUES (?1, ?2, ?3)
