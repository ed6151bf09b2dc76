(SELECT name AS queue, pruned AS count FROM queues WHERE pruned > 0)
