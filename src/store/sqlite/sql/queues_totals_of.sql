SELECT q.name, q.paused, q.max_running, q.max_queued, q.per_minute, q.max_payload,
       sum(l.blocked), sum(l.scheduled), sum(l.pending), sum(l.running), sum(l.done), sum(l.failed), sum(l.cancelled),
       sum(l.skipped), q.shared
FROM queues q JOIN lanes l ON l.queue = q.name
WHERE l.tenant = ?1
GROUP BY q.name ORDER BY q.name
