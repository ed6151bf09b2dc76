-- In the order of their numbers, so that nobody waits in a circle.
SELECT number FROM jobs WHERE number = ANY($1::bigint[]) ORDER BY number FOR NO KEY UPDATE
