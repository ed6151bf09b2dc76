SELECT 'lane ' || l.id || ' counts ' || l.pending || ' pending and ' || l.running || ' running, and has '
       || (SELECT count(*) FROM jobs j WHERE j.lane = l.id AND j.state = 'pending') || ' and '
       || (SELECT count(*) FROM jobs j WHERE j.lane = l.id AND j.state = 'running')
FROM lanes l
WHERE l.pending <> (SELECT count(*) FROM jobs j WHERE j.lane = l.id AND j.state = 'pending')
   OR l.running <> (SELECT count(*) FROM jobs j WHERE j.lane = l.id AND j.state = 'running')
LIMIT 20
