SELECT seq, 'event ' || seq, data FROM events WHERE data IS NOT NULL ORDER BY seq
