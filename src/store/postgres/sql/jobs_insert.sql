INSERT INTO jobs (number, id, lane, state, priority, created_at, waiting, due_at, deadline_at, finished_at, reason,
                  schedule)
SELECT u.number, u.id, u.lane, u.state, u.priority, $1, u.waiting, u.due_at, u.deadline_at, u.finished_at, u.reason,
       u.schedule
FROM unnest($2::bigint[], $3::uuid[], $4::bigint[], $5::text[], $6::integer[], $7::integer[], $8::bigint[],
            $9::bigint[], $10::bigint[], $11::text[], $12::uuid[])
    AS u(number, id, lane, state, priority, waiting, due_at, deadline_at, finished_at, reason, schedule)
ON CONFLICT (id) DO NOTHING
RETURNING number
