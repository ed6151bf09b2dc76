SELECT name, epoch, seen_at, released, boot, seen_boot FROM leader WHERE id = 1
