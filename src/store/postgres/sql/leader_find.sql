SELECT name, epoch, seen_at, released FROM leader WHERE id = 1
