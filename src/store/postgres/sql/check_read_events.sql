SELECT seq, 'event ' || seq, data FROM events WHERE data IS NOT NULL AND seq > $1 ORDER BY seq LIMIT $2
