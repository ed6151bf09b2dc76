SELECT coalesce(sum(count), 0), min(at) FROM submissions
WHERE scope = ?1 AND name = ?2 AND at > ?3 AND at <= ?4
