SELECT seq, stream, at, place, bytes FROM output
WHERE number = $1 AND attempt = $2 AND seq > $3 ORDER BY seq LIMIT $4
