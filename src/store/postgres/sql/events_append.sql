INSERT INTO events (at, kind, number, attempt, worker, actor, state, data)
SELECT $1, u.kind, u.number, u.attempt, u.worker, u.actor, u.state, u.data
FROM unnest($2::text[], $3::bigint[], $4::integer[], $5::text[], $6::text[], $7::text[], $8::text[]) WITH ORDINALITY
    AS u(kind, number, attempt, worker, actor, state, data, place)
ORDER BY u.place
