SELECT r.seq, 'run ' || lower(hex(r.id)), s.spec, s.captured
FROM runs r LEFT JOIN run_specs s ON s.seq = r.seq
ORDER BY r.seq
