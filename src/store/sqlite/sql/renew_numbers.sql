-- Who gave many numbers in its time may have given as many since.
UPDATE sqlite_sequence SET seq = seq + min(max(seq, ?1), ?2) WHERE name IN ('jobs', 'events', 'runs')
