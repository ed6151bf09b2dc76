-- It comes behind all that were served, by the place of the last event: to look at all lanes would take longer with each.
INSERT INTO lanes (queue, tenant, limit_key, needs, served)
VALUES (?1, ?2, ?3, ?4, coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'events'), 0)) RETURNING id
