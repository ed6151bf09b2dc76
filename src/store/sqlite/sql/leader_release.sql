UPDATE leader SET released = 1 WHERE id = 1 AND epoch = ?1
