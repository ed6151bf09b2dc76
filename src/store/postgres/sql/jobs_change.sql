-- All that follows from new lives of jobs, in one statement: each of them is named once in it. Whoever serves the same
-- lane at this moment says the same, so nobody waits for its turn.
WITH told AS (
    INSERT INTO events (at, kind, number, attempt, worker, actor, state, data)
    SELECT $1::bigint, u.kind, u.number, u.attempt, u.worker, u.actor, u.state, u.data
    FROM unnest($2::text[], $3::bigint[], $4::integer[], $5::text[], $6::text[], $7::text[], $8::text[]) WITH ORDINALITY
        AS u(kind, number, attempt, worker, actor, state, data, place)
    ORDER BY u.place
    RETURNING seq
), ended AS (
    INSERT INTO attempts (number, attempt, worker, started_at, finished_at, outcome, exit_code, signal, error)
    SELECT * FROM unnest($9::bigint[], $10::integer[], $11::text[], $12::bigint[], $13::bigint[], $14::text[],
                         $15::integer[], $16::integer[], $17::text[])
), released AS (
    DELETE FROM leases e USING unnest($18::bigint[], $19::integer[]) AS u(number, attempt)
    WHERE e.number = u.number AND e.attempt = u.attempt
), granted AS (
    INSERT INTO leases (number, attempt, lane, worker, worker_name, started_at, ttl, expires_at, secret_hash)
    SELECT u.number, u.attempt, j.lane, w.id, w.name, $1, $21, $22, w.secret_hash
    FROM unnest($23::bigint[], $24::integer[]) AS u(number, attempt) JOIN jobs j ON j.number = u.number
    CROSS JOIN workers w WHERE w.id = $20 AND w.secret_hash = $53
    RETURNING number
), saved AS (
    UPDATE jobs j SET state = u.state, attempt = u.attempt, generation = u.generation, failures = u.failures,
        losses = u.losses, interruptions = u.interruptions, streak = u.streak, unstarted = u.unstarted,
        unstarted_alone = u.unstarted_alone, waiting = u.waiting, due_at = u.due_at, deadline_at = u.deadline_at,
        reason = u.reason, finished_at = u.finished_at, cancel_requested_at = u.cancel_requested_at,
        last_seq = coalesce((SELECT max(seq) FROM told), (SELECT last_value FROM events_seq_seq))
    FROM unnest($25::bigint[], $26::text[], $27::integer[], $28::integer[], $29::integer[], $30::integer[],
                $31::integer[], $32::integer[], $33::integer[], $34::integer[], $35::integer[], $36::bigint[],
                $37::bigint[], $38::text[], $39::bigint[], $40::bigint[], $41::text[])
        AS u(number, state, attempt, generation, failures, losses, interruptions, streak, unstarted, unstarted_alone,
             waiting, due_at, deadline_at, reason, finished_at, cancel_requested_at, before)
    WHERE j.number = u.number AND j.state = u.before
    RETURNING j.number
), turned AS (
    UPDATE lane_turns SET served = nextval('turns')
    WHERE lane = ANY($42::bigint[])
      AND pg_try_advisory_xact_lock((hashtext(current_schema())::bigint << 32) | (lane & 4294967295))
), counted AS (
    INSERT INTO lane_deltas
    SELECT * FROM unnest($43::bigint[], $44::bigint[], $45::bigint[], $46::bigint[], $47::bigint[], $48::bigint[],
                         $49::bigint[], $50::bigint[], $51::bigint[], $52::bigint[])
)
SELECT must((SELECT count(*) FROM granted), cardinality($23::bigint[]), 'OX002', 'no worker of this id and secret is registered'),
       must((SELECT count(*) FROM saved), cardinality($25::bigint[]), 'OX001',
            'a job is not in the state that it leaves')
