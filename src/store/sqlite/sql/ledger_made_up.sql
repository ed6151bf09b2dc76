-- What one transaction recorded has one instant of recording.
WITH newest AS (SELECT id, state, recovered, recorded_at FROM occurrences WHERE schedule = ?1 ORDER BY due_at DESC LIMIT ?2)
SELECT id FROM newest WHERE state = 'fired' AND recorded_at IN (SELECT recorded_at FROM newest WHERE recovered)
