DELETE FROM jobs WHERE number = ANY($1::bigint[])
