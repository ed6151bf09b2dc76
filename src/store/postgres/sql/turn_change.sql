-- What jobs_change.sql does, for the turn that is most of all: one attempt ends and one begins, of two jobs. It has no
-- columns of values to take apart, which costs a server more than the rows.
WITH told AS (
    INSERT INTO events (at, kind, number, attempt, worker, actor, state, data)
    SELECT $1::bigint, u.kind, u.number, u.attempt, u.worker, u.actor, u.state, u.data
    FROM unnest($2::text[], $3::bigint[], $4::integer[], $5::text[], $6::text[], $7::text[], $8::text[]) WITH ORDINALITY
        AS u(kind, number, attempt, worker, actor, state, data, place)
    ORDER BY u.place
    RETURNING seq
), ended AS (
    INSERT INTO attempts (number, attempt, worker, started_at, finished_at, outcome, exit_code, signal, error)
    VALUES ($9, $10, $11, $12, $13, $14, $15, $16, $17)
), released AS (
    DELETE FROM leases WHERE number = $18 AND attempt = $19
), saved AS (
    UPDATE jobs j SET state = u.state, attempt = u.attempt, generation = u.generation, failures = u.failures,
        losses = u.losses, interruptions = u.interruptions, streak = u.streak, unstarted = u.unstarted,
        unstarted_alone = u.unstarted_alone, waiting = u.waiting, due_at = u.due_at, deadline_at = u.deadline_at,
        reason = u.reason, finished_at = u.finished_at, cancel_requested_at = u.cancel_requested_at,
        last_seq = (SELECT max(seq) FROM told)
    FROM (VALUES
        ($25::bigint, $26::text, $27::integer, $28::integer, $29::integer, $30::integer, $31::integer, $32::integer,
         $33::integer, $34::integer, $35::integer, $36::bigint, $37::bigint, $38::text, $39::bigint, $40::bigint,
         $41::text),
        ($42::bigint, $43::text, $44::integer, $45::integer, $46::integer, $47::integer, $48::integer, $49::integer,
         $50::integer, $51::integer, $52::integer, $53::bigint, $54::bigint, $55::text, $56::bigint, $57::bigint,
         $58::text)
    ) AS u(number, state, attempt, generation, failures, losses, interruptions, streak, unstarted, unstarted_alone,
           waiting, due_at, deadline_at, reason, finished_at, cancel_requested_at, before)
    WHERE j.number = u.number AND j.state = u.before
    RETURNING j.number, j.lane
), granted AS (
    INSERT INTO leases (number, attempt, lane, worker, worker_name, started_at, ttl, expires_at, secret_hash)
    SELECT s.number, $24::integer, s.lane, w.id, w.name, $1, $21::bigint, $22::bigint, w.secret_hash
    FROM saved s CROSS JOIN workers w WHERE s.number = $23::bigint AND w.id = $20 AND w.secret_hash = $79
    RETURNING number
), turned AS (
    UPDATE lane_turns SET served = nextval('turns')
    WHERE lane = $59
      AND pg_try_advisory_xact_lock((hashtext(current_schema())::bigint << 32) | (lane & 4294967295))
), counted AS (
    INSERT INTO lane_deltas
    SELECT $60::bigint, $61::bigint, $62::bigint, $63::bigint, $64::bigint, $65::bigint, $66::bigint, $67::bigint,
           $68::bigint, $69::bigint
    WHERE $60 IS NOT NULL
), tallied AS (
    INSERT INTO tally_deltas SELECT * FROM unnest($70::text[], $71::bigint[])
), put AS (
    INSERT INTO output (number, attempt, seq, stream, at, place, bytes)
    SELECT $72::bigint, $73::integer, $74::bigint, $75::smallint, $76::bigint, $77::bigint, $78::bytea
    WHERE $72 IS NOT NULL
    ON CONFLICT DO NOTHING
)
SELECT CASE WHEN s.n <> 2 THEN must(s.n, 2, 'OX001', 'a job is not in the state that it leaves') END,
       CASE WHEN g.n <> 1 THEN must(g.n, 1, 'OX002', 'no worker of this id and secret is registered') END
FROM (SELECT count(*) AS n FROM saved) s, (SELECT count(*) AS n FROM granted) g
