UPDATE jobs SET last_seq = (SELECT last_value FROM events_seq_seq) WHERE number = ANY($1::bigint[])
