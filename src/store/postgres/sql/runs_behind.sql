SELECT id FROM runs WHERE behind = $1 ORDER BY seq
