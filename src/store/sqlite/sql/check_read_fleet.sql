SELECT 0, 'worker ' || name, offer, NULL FROM workers
UNION ALL
SELECT 0, 'coordinator ' || name, peers, homes FROM nodes
