INSERT INTO attempts (number, attempt, worker, started_at, finished_at, outcome, exit_code, signal, error)
SELECT * FROM unnest($1::bigint[], $2::integer[], $3::text[], $4::bigint[], $5::bigint[], $6::text[], $7::integer[],
                     $8::integer[], $9::text[])
