INSERT INTO tally_deltas SELECT * FROM unnest($1::text[], $2::bigint[])
