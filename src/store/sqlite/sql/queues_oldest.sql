-- The first job of each priority of each lane: as many steps as there are priorities in use, however many jobs wait.
WITH RECURSIVE heads(lane, priority) AS (
    SELECT l.id, (SELECT max(priority) FROM jobs WHERE state = 'pending' AND lane = l.id)
    FROM lanes l WHERE l.queue = ?1 AND (?2 IS NULL OR l.tenant = ?2) AND l.pending > 0
    UNION ALL
    SELECT h.lane, (SELECT max(priority) FROM jobs WHERE state = 'pending' AND lane = h.lane AND priority < h.priority)
    FROM heads h WHERE h.priority IS NOT NULL
)
SELECT min((SELECT j.created_at FROM jobs j
            WHERE j.state = 'pending' AND j.lane = h.lane AND j.priority = h.priority ORDER BY j.number LIMIT 1))
FROM heads h WHERE h.priority IS NOT NULL
