UPDATE lanes SET served = (SELECT max(served) + 1 FROM lanes) WHERE id = ?1
