-- Waits for nobody: of a job that somebody has locked it is forgotten later, with old events.
UPDATE jobs SET last_seq = (SELECT last_value FROM events_seq_seq)
WHERE number = ANY(ARRAY(SELECT number FROM jobs WHERE number = ANY($1::bigint[]) ORDER BY number
                         FOR NO KEY UPDATE SKIP LOCKED))
