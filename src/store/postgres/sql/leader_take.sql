-- Where the boot clock was not read precisely ($3 is empty) the mark stays as it was.
INSERT INTO leader AS l (id, name, epoch, seen_at, marked_at, boot, marked_boot) VALUES (1, $1, 1, $2, $2, $3, $4)
ON CONFLICT (id) DO UPDATE SET name = excluded.name, epoch = l.epoch + 1, seen_at = excluded.seen_at, released = false,
    marked_at = CASE WHEN $3 = '' THEN l.marked_at ELSE excluded.marked_at END,
    boot = CASE WHEN $3 = '' THEN l.boot ELSE excluded.boot END,
    marked_boot = CASE WHEN $3 = '' THEN l.marked_boot ELSE excluded.marked_boot END
RETURNING epoch
