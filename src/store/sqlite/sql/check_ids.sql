SELECT 'job ' || number || ' has an id of zeros' FROM jobs WHERE id = zeroblob(16)
UNION ALL
SELECT 'run ' || seq || ' has an id of zeros' FROM runs WHERE id = zeroblob(16)
UNION ALL
SELECT 'schedule ' || name || ' has an id of zeros' FROM schedules WHERE id = zeroblob(16)
LIMIT 20
