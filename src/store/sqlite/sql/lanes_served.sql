UPDATE lanes SET served = ?2 WHERE id = ?1
