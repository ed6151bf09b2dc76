-- A statement of its own after the lock: it sees the jobs as they are under it, and their leases.
SELECT j.number, j.id, j.lane, l.queue, l.tenant, j.created_at, s.spec, s.captured,
       j.state, j.attempt, j.generation, j.failures, j.losses, j.interruptions, j.streak,
       j.unstarted, j.unstarted_alone, j.waiting, j.due_at, j.deadline_at, j.reason, j.finished_at, j.cancel_requested_at, s.origin,
       EXISTS (SELECT 1 FROM job_dependencies d WHERE d.needs = j.number),
       e.attempt, e.worker, e.worker_name, e.started_at, e.cancel, e.secret_hash
FROM jobs j JOIN lanes l ON l.id = j.lane LEFT JOIN job_specs s ON s.number = j.number
LEFT JOIN leases e ON e.number = j.number
WHERE j.number = ANY($1::bigint[])
