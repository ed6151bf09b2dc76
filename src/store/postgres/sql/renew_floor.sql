INSERT INTO settings (name, value)
SELECT 'floor', json_build_object(
    'attempt', $1::bigint + greatest(coalesce((SELECT max(attempt) FROM jobs), 0),
        coalesce((SELECT (value::json ->> 'attempt')::bigint FROM settings WHERE name = 'floor'), 0)),
    'through', (SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM job_numbers))::text
ON CONFLICT (name) DO UPDATE SET value = excluded.value
RETURNING value
