-- The clock; the transaction's number, by which its end can be looked up; and a mark below which no event of this transaction will lie, which holds until it ends: readers look for
-- such marks so as not to pass over events that are still to come (S26).
SELECT clock_ms(), txid_current(), pg_advisory_xact_lock_shared(hashtext(current_schema()),
    ((CASE WHEN is_called THEN last_value ELSE last_value - 1 END) & 2147483647)::integer)
FROM events_seq_seq
