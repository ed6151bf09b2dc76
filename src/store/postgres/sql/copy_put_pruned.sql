INSERT INTO lane_totals (lane, pruned)
SELECT min(l.id), u.count FROM unnest($1::text[], $2::bigint[]) AS u(queue, count) JOIN lanes l ON l.queue = u.queue
GROUP BY u.queue, u.count
