UPDATE lanes SET blocked = blocked + ?2, scheduled = scheduled + ?3, pending = pending + ?4, running = running + ?5,
    done = done + ?6, failed = failed + ?7, cancelled = cancelled + ?8, skipped = skipped + ?9
WHERE id = ?1
