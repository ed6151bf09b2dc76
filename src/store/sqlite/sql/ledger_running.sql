SELECT id, behind IS NOT NULL FROM runs WHERE schedule_id = ?1 AND state = 'running' ORDER BY seq DESC LIMIT ?2
