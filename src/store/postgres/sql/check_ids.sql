SELECT 'job ' || number || ' has an id of zeros' FROM jobs WHERE id = '00000000-0000-0000-0000-000000000000'
UNION ALL
SELECT 'run ' || seq || ' has an id of zeros' FROM runs WHERE id = '00000000-0000-0000-0000-000000000000'
UNION ALL
SELECT 'schedule ' || name || ' has an id of zeros' FROM schedules WHERE id = '00000000-0000-0000-0000-000000000000'
LIMIT 20
