(SELECT l.id, l.queue, l.tenant, l.limit_key, l.needs, t.served FROM lanes l JOIN lane_turns t ON t.lane = l.id) AS o
