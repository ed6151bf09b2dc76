-- Whoever serves the same lane at this moment says the same, so nobody waits.
UPDATE lane_turns SET served = nextval('turns')
WHERE lane IN (SELECT lane FROM lane_turns WHERE lane = ANY($1::bigint[]) ORDER BY lane FOR NO KEY UPDATE SKIP LOCKED)
