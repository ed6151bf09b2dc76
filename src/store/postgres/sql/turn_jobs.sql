-- The jobs of attempts that end, which are locked, as jobs_hold.sql reads them; and the first of a lane, which it locks
-- as lanes_pending_lock.sql does.
SELECT j.number, j.id, j.lane, l.queue, l.tenant, j.created_at, s.spec, s.captured,
       j.state, j.attempt, j.generation, j.failures, j.losses, j.interruptions, j.streak,
       j.unstarted, j.unstarted_alone, j.waiting, j.due_at, j.deadline_at, j.reason, j.finished_at, j.cancel_requested_at, s.origin,
       EXISTS (SELECT 1 FROM job_dependencies d WHERE d.needs = j.number),
       e.attempt, e.worker, e.worker_name, e.started_at, e.cancel, e.secret_hash, false
FROM jobs j JOIN lanes l ON l.id = j.lane LEFT JOIN job_specs s ON s.number = j.number
LEFT JOIN leases e ON e.number = j.number
WHERE j.number = ANY($1::bigint[])
UNION ALL
SELECT n.*, NULL, NULL, NULL, NULL, NULL, NULL, NULL, true
FROM (SELECT j.number, j.id, j.lane, l.queue, l.tenant, j.created_at, s.spec, s.captured,
             j.state, j.attempt, j.generation, j.failures, j.losses, j.interruptions, j.streak,
             j.unstarted, j.unstarted_alone, j.waiting, j.due_at, j.deadline_at, j.reason, j.finished_at, j.cancel_requested_at, s.origin
      FROM jobs j JOIN lanes l ON l.id = j.lane LEFT JOIN job_specs s ON s.number = j.number
      WHERE j.state = 'pending' AND j.lane = $2 ORDER BY j.priority DESC, j.number LIMIT $3
      FOR NO KEY UPDATE OF j SKIP LOCKED) n
