SELECT name, max_running, max_queued, per_minute, max_payload, queued, running FROM tenants ORDER BY name
