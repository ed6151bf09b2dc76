DELETE FROM events
WHERE seq <= (SELECT max(last_seq) FROM jobs WHERE number IN (SELECT value FROM json_each(?1)))
  AND number IN (SELECT value FROM json_each(?1))
