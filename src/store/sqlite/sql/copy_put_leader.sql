INSERT INTO leader (id, name, epoch, seen_at, released, boot, seen_boot) VALUES (?1, ?2, ?3, ?4, 1, '', 0)
