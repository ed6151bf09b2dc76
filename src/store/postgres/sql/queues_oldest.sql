-- The first job of each priority of each lane: as many steps as there are priorities in use, however many jobs wait.
WITH RECURSIVE heads(lane, priority) AS (
    SELECT l.id, (SELECT j.priority FROM jobs j WHERE j.state = 'pending' AND j.lane = l.id
                  ORDER BY j.priority DESC, j.number LIMIT 1)
    FROM lanes l WHERE l.queue = $1 AND ($2::text IS NULL OR l.tenant = $2) AND l.active
    UNION ALL
    SELECT h.lane, (SELECT j.priority FROM jobs j
                    WHERE j.state = 'pending' AND j.lane = h.lane AND j.priority < h.priority
                    ORDER BY j.priority DESC, j.number LIMIT 1)
    FROM heads h WHERE h.priority IS NOT NULL
)
SELECT min((SELECT j.created_at FROM jobs j
            WHERE j.state = 'pending' AND j.lane = h.lane AND j.priority = h.priority ORDER BY j.number LIMIT 1))
FROM heads h WHERE h.priority IS NOT NULL
