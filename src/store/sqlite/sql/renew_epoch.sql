INSERT INTO leader (id, name, epoch, seen_at, released, boot, seen_boot) VALUES (1, '', ?1, ?2, 1, '', 0)
ON CONFLICT (id) DO UPDATE SET epoch = epoch + ?1, released = 1
RETURNING epoch
