INSERT INTO manifest (name, rows, checksum) VALUES (?1, ?2, ?3)
