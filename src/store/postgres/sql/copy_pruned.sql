(SELECT l.queue, sum(c.pruned)::bigint AS count FROM lane_counts c JOIN lanes l ON l.id = c.lane
 GROUP BY l.queue HAVING sum(c.pruned) > 0) AS o
