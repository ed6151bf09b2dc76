UPDATE output SET bytes = substr(bytes, ($5::bigint - place + 1)::integer), place = $5::bigint
WHERE number = $1 AND attempt = $2 AND seq >= $3 AND seq < $4 AND place < $5::bigint
