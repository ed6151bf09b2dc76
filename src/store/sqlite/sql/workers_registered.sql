SELECT name, secret_hash FROM workers WHERE id = ?1
