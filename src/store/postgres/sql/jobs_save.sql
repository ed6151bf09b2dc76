UPDATE jobs j SET state = u.state, attempt = u.attempt, generation = u.generation, failures = u.failures,
    losses = u.losses, interruptions = u.interruptions, streak = u.streak, waiting = u.waiting, due_at = u.due_at,
    deadline_at = u.deadline_at, reason = u.reason, finished_at = u.finished_at,
    cancel_requested_at = u.cancel_requested_at, last_seq = (SELECT last_value FROM events_seq_seq)
FROM unnest($1::bigint[], $2::text[], $3::integer[], $4::integer[], $5::integer[], $6::integer[], $7::integer[],
            $8::integer[], $9::integer[], $10::bigint[], $11::bigint[], $12::text[], $13::bigint[], $14::bigint[], $15::text[])
    AS u(number, state, attempt, generation, failures, losses, interruptions, streak, waiting, due_at, deadline_at,
         reason, finished_at, cancel_requested_at, before)
WHERE j.number = u.number AND j.state = u.before
RETURNING j.number
