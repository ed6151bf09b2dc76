DELETE FROM dead_letters WHERE number IN (SELECT value FROM json_each(?1))
