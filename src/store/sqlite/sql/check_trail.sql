-- Each job beside what the trail tells of it: stored once, leased and settled as its rows say, and in the state told last.
-- That it is due and pending is not told.
WITH told AS (
    SELECT number, sum(kind = 'enqueued') AS stored, sum(kind = 'settled') AS settled,
           max(CASE WHEN kind = 'leased' THEN attempt END) AS leased,
           max(CASE WHEN state IS NOT NULL THEN seq END) AS last
    FROM events WHERE number IS NOT NULL GROUP BY number),
ended AS (SELECT number, count(*) AS attempts FROM attempts GROUP BY number)
SELECT 'job ' || j.number || CASE
    WHEN coalesce(t.stored, 0) <> 1 THEN ' was stored ' || coalesce(t.stored, 0) || ' times, says the trail'
    WHEN coalesce(t.leased, 0) <> j.attempt
        THEN ' is in attempt ' || j.attempt || ', and ' || coalesce(t.leased, 0) || ' was leased last, says the trail'
    WHEN coalesce(t.settled, 0) <> coalesce(a.attempts, 0)
        THEN ' has ' || coalesce(a.attempts, 0) || ' ended attempts, and ' || coalesce(t.settled, 0) || ' have, says the trail'
    ELSE ' is ' || j.state || ', and became ' || e.state || ' last, says the trail' END
FROM jobs j
LEFT JOIN told t ON t.number = j.number
LEFT JOIN ended a ON a.number = j.number
LEFT JOIN events e ON e.seq = t.last
WHERE coalesce(t.stored, 0) <> 1
   OR coalesce(t.leased, 0) <> j.attempt
   OR coalesce(t.settled, 0) <> coalesce(a.attempts, 0)
   OR NOT (e.state = j.state OR (e.state = 'scheduled' AND j.state = 'pending'))
LIMIT 20
