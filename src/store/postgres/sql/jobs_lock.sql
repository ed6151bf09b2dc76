-- What begin.sql does, and beside it the lock on jobs, in the order of their numbers, so that nobody waits in a circle.
SELECT clock_ms(), txid_current(), pg_advisory_xact_lock_shared(hashtext(current_schema()),
    ((CASE WHEN is_called THEN last_value ELSE last_value - 1 END) & 2147483647)::integer),
    ARRAY(SELECT number FROM jobs WHERE number = ANY($1::bigint[]) ORDER BY number FOR NO KEY UPDATE)
FROM events_seq_seq
