SELECT number FROM jobs WHERE state = 'scheduled' AND due_at <= $1 ORDER BY due_at, number LIMIT $2
FOR NO KEY UPDATE SKIP LOCKED
