-- What was given before the machine started is over (S1).
SELECT l.number, l.worker, l.worker_name, w.host, CASE WHEN l.boot <> ?1 AND l.expires_boot > ?2 + l.ttl THEN 0 ELSE l.expires_boot - ?2 END AS remains, l.ttl
FROM leases l LEFT JOIN workers w ON w.id = l.worker
WHERE ?3 IS NULL OR l.number = ?3
ORDER BY remains LIMIT ?4
