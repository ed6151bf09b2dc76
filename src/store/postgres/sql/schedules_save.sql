UPDATE schedules s SET version = u.version, then_version = u.then_version, then_from = u.then_from, paused = u.paused,
    recorded_until = u.recorded_until, tail_from = u.tail_from, next_due_at = u.next_due_at, last_due_at = u.last_due_at,
    last_skip_reason = u.last_skip_reason, removed_at = u.removed_at
FROM unnest($1::uuid[], $2::integer[], $3::integer[], $4::bigint[], $5::boolean[], $6::bigint[], $7::bigint[],
            $8::bigint[], $9::bigint[], $10::text[], $11::bigint[])
    AS u(id, version, then_version, then_from, paused, recorded_until, tail_from, next_due_at, last_due_at,
         last_skip_reason, removed_at)
WHERE s.id = u.id
