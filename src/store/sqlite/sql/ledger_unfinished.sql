SELECT number FROM jobs WHERE schedule = ?1 AND finished_at IS NULL ORDER BY number LIMIT ?2
