-- A statement of its own after the lock: now it sees what was stored until the lock was had.
UPDATE lanes l SET active = false
WHERE l.id = ANY($1::bigint[]) AND (SELECT j.number FROM jobs j WHERE j.state = 'pending' AND j.lane = l.id
                    ORDER BY j.priority DESC, j.number LIMIT 1) IS NULL
