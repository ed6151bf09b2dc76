-- The one that is there, else the one removed last.
SELECT * FROM schedule_rows WHERE tenant = ?1 AND name = ?2 ORDER BY removed_at IS NOT NULL, removed_at DESC LIMIT 1
