SELECT d.fingerprint, count(*), min(d.died_at), max(d.died_at), max(d.number)
FROM dead_letters d JOIN jobs j ON j.number = d.number JOIN lanes l ON l.id = j.lane
WHERE ($1::text IS NULL OR l.queue = $1) AND ($2::text IS NULL OR l.tenant = $2)
  AND ($3::text IS NULL OR d.reason = $3) AND ($4::text IS NULL OR d.fingerprint = $4)
  AND ($5::bigint IS NULL OR d.died_at >= $5)
GROUP BY d.fingerprint ORDER BY 2 DESC, 1 LIMIT $6
