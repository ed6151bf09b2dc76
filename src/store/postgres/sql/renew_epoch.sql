INSERT INTO leader AS l (id, name, epoch, seen_at, released, marked_at, boot, marked_boot)
VALUES (1, '', $1, $2, true, $2, '', 0)
ON CONFLICT (id) DO UPDATE SET epoch = l.epoch + excluded.epoch, released = true
RETURNING epoch
