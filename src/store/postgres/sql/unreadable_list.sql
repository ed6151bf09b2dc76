SELECT number FROM unreadable ORDER BY number LIMIT $1
