INSERT INTO settings (name, value)
SELECT 'floor', json_object(
    'attempt', ?1 + max(coalesce((SELECT max(attempt) FROM jobs), 0),
                        coalesce((SELECT json_extract(value, '$.attempt') FROM settings WHERE name = 'floor'), 0)),
    'through', coalesce((SELECT max(seq) FROM sqlite_sequence WHERE name = 'jobs'), 0))
WHERE true
ON CONFLICT (name) DO UPDATE SET value = excluded.value
RETURNING value
