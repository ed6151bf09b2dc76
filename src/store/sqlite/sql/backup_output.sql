-- The second file was read later than the first: what belongs to nothing in that one is left out.
INSERT OR REPLACE INTO main.output (number, attempt, seq, stream, at, place, bytes)
SELECT s.number, s.attempt, s.seq, s.stream, s.at, s.place, s.bytes FROM side.output s
WHERE EXISTS (SELECT 1 FROM main.jobs j WHERE j.number = s.number AND s.attempt <= j.attempt)
