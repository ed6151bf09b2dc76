SELECT 'schedule ' || s.name || ' has an instant twice, at ' || o.next FROM (
    SELECT schedule, until, lead(due_at) OVER (PARTITION BY schedule ORDER BY due_at) AS next FROM occurrences) o
JOIN schedules s ON s.id = o.schedule WHERE o.next <= o.until
UNION ALL
SELECT 'schedule ' || s.name || ' has a row after what is recorded, at ' || o.due_at FROM occurrences o
JOIN schedules s ON s.id = o.schedule WHERE o.until > s.recorded_until
UNION ALL
SELECT 'schedule ' || s.name || ' lacks its version ' || s.version FROM schedules s
LEFT JOIN schedule_rows r ON r.id = s.id WHERE r.id IS NULL OR (r.then_version IS NOT NULL AND r.then_definition IS NULL)
UNION ALL
SELECT 'an occurrence at ' || o.due_at || ' has no schedule or version' FROM occurrences o
LEFT JOIN schedules s ON s.id = o.schedule
LEFT JOIN schedule_versions v ON v.schedule = o.schedule AND v.version = o.version
WHERE s.id IS NULL OR v.version IS NULL
LIMIT 20
