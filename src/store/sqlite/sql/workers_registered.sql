SELECT name, host, offer, secret_hash FROM workers WHERE id = ?1
