UPDATE orx_bare SET state = 'running'
WHERE number = (SELECT number FROM orx_bare WHERE state = 'pending' ORDER BY number LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING number \gset
UPDATE orx_bare SET state = 'done' WHERE number = :number;
