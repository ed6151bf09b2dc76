DELETE FROM output
WHERE number = $1 AND attempt = $2 AND seq >= $3 AND seq < $4 AND place + length(bytes) <= $5::bigint
