SELECT number FROM jobs WHERE number = ANY(ARRAY(SELECT number FROM leases WHERE worker = $1))
ORDER BY number FOR NO KEY UPDATE
