SELECT s.id, r.id, r.waits FROM unnest($1::uuid[]) AS s(id)
CROSS JOIN LATERAL (SELECT id, behind IS NOT NULL AS waits FROM runs WHERE schedule_id = s.id AND state = 'running'
                    ORDER BY seq DESC LIMIT $2) r
