(SELECT n.name, coalesce((SELECT max(s.seq) FROM sqlite_sequence s WHERE s.name = n.name), 0) AS value
 FROM (SELECT 'jobs' AS name UNION ALL SELECT 'events' UNION ALL SELECT 'runs') n)
