INSERT INTO lane_turns (lane, served)
VALUES ($1, (SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END FROM turns)) ON CONFLICT DO NOTHING
