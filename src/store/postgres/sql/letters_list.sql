SELECT d.number, d.reason, d.fingerprint, d.error, d.died_at
FROM dead_letters d JOIN jobs j ON j.number = d.number JOIN lanes l ON l.id = j.lane
WHERE d.number < $1 AND ($2::text IS NULL OR l.queue = $2) AND ($3::text IS NULL OR l.tenant = $3)
  AND ($4::text IS NULL OR d.reason = $4) AND ($5::text IS NULL OR d.fingerprint = $5)
  AND ($6::bigint IS NULL OR d.died_at >= $6)
ORDER BY d.number DESC LIMIT $7
