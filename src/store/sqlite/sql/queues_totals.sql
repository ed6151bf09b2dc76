SELECT name, paused, max_running, max_queued, per_minute, max_payload,
       blocked, scheduled, pending, running, done, failed, cancelled, skipped, shared
FROM queues ORDER BY name
