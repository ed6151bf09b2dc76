SELECT l.id FROM lanes l
WHERE l.active AND (SELECT j.number FROM jobs j WHERE j.state = 'pending' AND j.lane = l.id
                    ORDER BY j.priority DESC, j.number LIMIT 1) IS NULL
ORDER BY l.id LIMIT $1 FOR UPDATE SKIP LOCKED
