INSERT INTO side.output (number, attempt, seq, stream, at, place, bytes) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
