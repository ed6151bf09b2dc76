SELECT 'job ' || number || ' is ' || state || ', which its row contradicts'
FROM jobs
WHERE state NOT IN ('blocked','scheduled','pending','running','done','failed','cancelled','skipped')
   OR priority NOT BETWEEN -100 AND 100 OR waiting < 0
   OR (state = 'scheduled' AND due_at IS NULL)
   OR (state = 'blocked' AND waiting = 0)
   OR (state = 'running' AND attempt = 0)
   OR (state IN ('done','failed','cancelled','skipped')) <> (finished_at IS NOT NULL)
UNION ALL
SELECT 'attempt ' || attempt || ' of job ' || number || ' ended as ' || outcome || ', which is no outcome'
FROM attempts
WHERE outcome NOT IN ('done','failed','timed_out','cancelled','interrupted','not_started','snoozed','lost')
LIMIT 20
