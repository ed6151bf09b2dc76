DELETE FROM events
WHERE seq <= (SELECT max(last_seq) FROM jobs WHERE number = ANY($1::bigint[])) AND number = ANY($1::bigint[])
