SELECT e.seq, e.at, e.kind, j.id, e.number, e.attempt, e.worker, e.actor, e.state, e.data
FROM events e LEFT JOIN jobs j ON j.number = e.number
WHERE e.seq > $1 AND e.seq <= $2 ORDER BY e.seq LIMIT $3
