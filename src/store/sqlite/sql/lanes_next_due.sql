-- In the order of the index, so that it ends with the first one.
SELECT due_at FROM jobs WHERE state = 'scheduled' AND lane IN (SELECT value FROM json_each(?1))
ORDER BY due_at LIMIT 1
