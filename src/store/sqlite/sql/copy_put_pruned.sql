UPDATE queues SET pruned = ?2 WHERE name = ?1
