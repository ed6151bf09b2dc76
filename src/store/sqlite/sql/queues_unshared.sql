SELECT name FROM queues WHERE NOT shared ORDER BY name
