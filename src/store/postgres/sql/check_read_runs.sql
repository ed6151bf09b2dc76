SELECT r.seq, 'run ' || r.id, s.spec, s.captured
FROM runs r LEFT JOIN run_specs s ON s.seq = r.seq
WHERE r.seq > $1 ORDER BY r.seq LIMIT $2
