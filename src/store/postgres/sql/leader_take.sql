INSERT INTO leader AS l (id, name, epoch, seen_at, boot, seen_boot) VALUES (1, $1, 1, $2, $3, $4)
ON CONFLICT (id) DO UPDATE SET name = excluded.name, epoch = l.epoch + 1, seen_at = excluded.seen_at,
    released = false, boot = excluded.boot, seen_boot = excluded.seen_boot
RETURNING epoch
