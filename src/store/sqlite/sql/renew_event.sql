INSERT INTO events (at, kind, actor, data) VALUES (?1, 'restored', ?2, ?3)
