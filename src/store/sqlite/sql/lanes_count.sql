UPDATE lanes SET pending = pending + ?2, running = running + ?3 WHERE id = ?1
