SELECT (SELECT count(*) FROM leases) + (SELECT count(*) FROM jobs j
    WHERE j.state = 'running' AND NOT EXISTS (SELECT 1 FROM leases e WHERE e.number = j.number))
