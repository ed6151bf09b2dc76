UPDATE leader SET seen_at = ?2, boot = ?3, seen_boot = ?4 WHERE id = 1 AND epoch = ?1 AND NOT released
