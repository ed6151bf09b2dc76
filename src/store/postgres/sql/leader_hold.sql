-- Nobody else is marked as the leader, or marks the clock, until the transaction ends.
SELECT marked_at, boot, marked_boot FROM leader WHERE id = 1 FOR NO KEY UPDATE
