SELECT name, epoch, seen_at, boot, seen_boot, released FROM leader WHERE id = 1
