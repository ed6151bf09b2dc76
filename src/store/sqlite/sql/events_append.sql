INSERT INTO events (at, kind, number, attempt, worker, actor, state, data)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
