DELETE FROM attempts WHERE number IN (SELECT value FROM json_each(?1))
