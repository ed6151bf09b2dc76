SELECT number FROM jobs WHERE state = 'pending' AND lane = $1 ORDER BY priority DESC, number LIMIT $2
