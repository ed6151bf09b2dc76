SELECT name, epoch, seen_at, boot, seen_boot FROM leader WHERE id = 1
