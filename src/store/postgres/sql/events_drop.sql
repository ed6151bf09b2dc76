DELETE FROM events WHERE seq = ANY($1::bigint[])
