SELECT NOT EXISTS (SELECT 1 FROM queues WHERE blocked + scheduled + pending + running > 0)
