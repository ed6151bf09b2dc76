SELECT min(due_at) FROM jobs WHERE state = 'scheduled' AND lane = ANY($1::bigint[])
