INSERT INTO lanes (queue, tenant, limit_key, needs, served) VALUES (?1, ?2, ?3, ?4, (SELECT coalesce(max(served), 0) FROM lanes)) RETURNING id
