DELETE FROM attempts WHERE number = ANY($1::bigint[])
