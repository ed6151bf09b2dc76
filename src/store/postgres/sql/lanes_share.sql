SELECT active FROM lanes WHERE id = ANY($1::bigint[]) ORDER BY id FOR SHARE
