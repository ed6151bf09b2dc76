INSERT INTO tenants (name, max_running, max_queued, per_minute, max_payload)
SELECT $1, d.max_running, d.max_queued, d.per_minute, d.max_payload
FROM (SELECT 1) AS one LEFT JOIN tenants d ON d.name = '*'
WHERE true
ON CONFLICT DO NOTHING
