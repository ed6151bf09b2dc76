UPDATE nodes SET draining = 1 WHERE id = ?1
