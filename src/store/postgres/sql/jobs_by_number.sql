SELECT number FROM jobs WHERE number BETWEEN $1 AND $2 ORDER BY number LIMIT $3
