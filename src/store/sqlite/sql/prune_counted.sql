UPDATE queues SET pruned = pruned + ?2 WHERE name = ?1
