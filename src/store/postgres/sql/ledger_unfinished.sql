SELECT s.id, j.number FROM unnest($1::uuid[]) AS s(id)
CROSS JOIN LATERAL (SELECT number FROM jobs WHERE schedule = s.id AND finished_at IS NULL ORDER BY number LIMIT $2) j
