DELETE FROM submissions WHERE scope = ?1 AND name = ?2 AND (at <= ?3 OR at > ?4)
