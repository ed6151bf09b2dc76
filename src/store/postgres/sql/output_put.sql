INSERT INTO output (number, attempt, seq, stream, at, place, bytes)
SELECT * FROM unnest($1::bigint[], $2::integer[], $3::bigint[], $4::smallint[], $5::bigint[], $6::bigint[], $7::bytea[])
ON CONFLICT DO NOTHING
