DELETE FROM dead_letters WHERE number = ANY($1::bigint[]) RETURNING number
