WITH kept AS MATERIALIZED (SELECT active FROM lanes WHERE id = ANY($1::bigint[]) ORDER BY id FOR SHARE)
SELECT must(count(*) FILTER (WHERE active), count(*), '40001', 'a lane cannot be kept active') FROM kept
