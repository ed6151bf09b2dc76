SELECT j.number, j.id, j.lane, l.queue, l.tenant, j.created_at, s.spec, s.captured,
       j.state, j.attempt, j.generation, j.failures, j.losses, j.interruptions, j.streak,
       j.unstarted, j.unstarted_alone, j.waiting, j.due_at, j.deadline_at, j.reason, j.finished_at, j.cancel_requested_at, s.origin
FROM jobs j JOIN lanes l ON l.id = j.lane LEFT JOIN job_specs s ON s.number = j.number
WHERE j.number = ?1
