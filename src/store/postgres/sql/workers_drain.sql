UPDATE workers SET state = 'draining' WHERE id = $1
