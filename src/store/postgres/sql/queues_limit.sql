INSERT INTO queues (name, max_running, max_queued, per_minute, max_payload) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (name) DO UPDATE SET max_running = excluded.max_running, max_queued = excluded.max_queued,
    per_minute = excluded.per_minute, max_payload = excluded.max_payload
