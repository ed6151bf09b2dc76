SELECT 'lane ' || l.id || ' is not active, and job ' || j.number || ' is pending in it'
FROM lanes l JOIN jobs j ON j.lane = l.id AND j.state = 'pending'
WHERE NOT l.active
UNION ALL
SELECT 'lane ' || l.id || ' has no turn' FROM lanes l WHERE NOT EXISTS (SELECT 1 FROM lane_turns t WHERE t.lane = l.id)
LIMIT 20
