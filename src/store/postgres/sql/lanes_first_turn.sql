INSERT INTO lane_turns (lane, served) VALUES ($1, (SELECT last_value FROM turns)) ON CONFLICT DO NOTHING
