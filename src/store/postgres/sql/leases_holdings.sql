SELECT l.number, l.worker, l.worker_name, w.host, l.expires_at - $1 AS remains, l.ttl
FROM leases l LEFT JOIN workers w ON w.id = l.worker
WHERE $2::bigint IS NULL OR l.number = $2
ORDER BY remains LIMIT $3
