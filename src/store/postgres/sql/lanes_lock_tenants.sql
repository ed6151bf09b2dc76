SELECT name FROM tenants WHERE name = ANY($1::text[]) ORDER BY name FOR NO KEY UPDATE
