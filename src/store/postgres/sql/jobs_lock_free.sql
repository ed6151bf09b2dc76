-- Those that are there and locked by somebody else, or whose lease is; it locks the rest.
SELECT number FROM jobs
WHERE number = ANY($1::bigint[])
  AND (number <> ALL(ARRAY(
           SELECT number FROM jobs WHERE number = ANY($1::bigint[]) ORDER BY number FOR NO KEY UPDATE SKIP LOCKED))
       OR number = ANY(ARRAY(SELECT number FROM leases WHERE number = ANY($1::bigint[])))
          AND number <> ALL(ARRAY(
              SELECT number FROM leases WHERE number = ANY($1::bigint[]) ORDER BY number
              FOR NO KEY UPDATE SKIP LOCKED)))
