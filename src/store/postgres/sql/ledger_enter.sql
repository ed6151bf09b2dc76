INSERT INTO occurrences (schedule, due_at, until, count, id, state, reason, run_id, version, recovered, backfilled,
    recorded_at)
SELECT u.schedule, u.due_at, u.until, u.count, u.id, u.state, u.reason, u.run_id, u.version, u.recovered, u.backfilled, $12
FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::uuid[], $6::text[], $7::text[], $8::uuid[],
            $9::integer[], $10::boolean[], $11::boolean[])
    AS u(schedule, due_at, until, count, id, state, reason, run_id, version, recovered, backfilled)
ON CONFLICT (schedule, due_at) DO NOTHING
RETURNING id
