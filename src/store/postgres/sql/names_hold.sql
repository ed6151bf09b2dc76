INSERT INTO names (tenant, name, number) VALUES ($1, $2, $3)
ON CONFLICT (tenant, name) DO UPDATE SET number = excluded.number
