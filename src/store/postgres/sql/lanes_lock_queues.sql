SELECT name FROM queues WHERE name = ANY($1::text[]) ORDER BY name FOR NO KEY UPDATE
