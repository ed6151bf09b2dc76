INSERT INTO leader (id, name, epoch, seen_at, boot, seen_boot) VALUES (1, ?1, 1, ?2, ?3, ?4)
ON CONFLICT (id) DO UPDATE SET name = excluded.name, epoch = epoch + 1, seen_at = excluded.seen_at,
    released = 0, boot = excluded.boot, seen_boot = excluded.seen_boot
RETURNING epoch
