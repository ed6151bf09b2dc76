UPDATE jobs SET last_seq = ?2 WHERE number IN (SELECT value FROM json_each(?1))
