SELECT * FROM schedule_rows WHERE id = ?1
