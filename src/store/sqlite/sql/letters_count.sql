SELECT count(*) FROM (SELECT 1 FROM dead_letters LIMIT ?1)
