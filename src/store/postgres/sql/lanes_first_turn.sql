INSERT INTO lane_turns (lane, served)
SELECT l.id, (SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END FROM turns) FROM lanes l
WHERE l.queue = $1 AND l.tenant = $2 AND l.limit_key = $3 AND l.needs = $4
ON CONFLICT DO NOTHING
