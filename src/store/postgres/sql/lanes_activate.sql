UPDATE lanes SET active = true
WHERE id IN (SELECT id FROM lanes WHERE id = ANY($1::bigint[]) AND NOT active ORDER BY id FOR NO KEY UPDATE)
