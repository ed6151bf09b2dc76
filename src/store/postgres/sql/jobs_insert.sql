-- The numbers first, in the order in which the jobs came. A job whose id is stored already leaves its number unused.
WITH given AS MATERIALIZED (
    SELECT nextval('job_numbers') AS number, u.*
    FROM (SELECT * FROM unnest($2::uuid[], $3::bigint[], $4::text[], $5::integer[], $6::integer[], $7::bigint[],
                               $8::bigint[], $9::bigint[], $10::text[], $11::uuid[], $12::text[], $13::text[],
                               $14::text[], $15::text[]) WITH ORDINALITY
              AS u(id, lane, state, priority, waiting, due_at, deadline_at, finished_at, reason, schedule, name, spec,
                   captured, origin, place)
          ORDER BY place) AS u
), stored AS (
    INSERT INTO jobs (number, id, lane, state, priority, created_at, waiting, due_at, deadline_at, finished_at, reason,
                      schedule)
    SELECT number, id, lane, state, priority, $1::bigint, waiting, due_at, deadline_at, finished_at, reason, schedule
    FROM given
    ON CONFLICT (id) DO NOTHING
    RETURNING number
), described AS (
    INSERT INTO job_specs (number, name, spec, captured, origin)
    SELECT number, name, spec, captured, origin FROM given
), labelled AS (
    INSERT INTO job_labels (key, value, number)
    SELECT u.key, u.value, (ARRAY(SELECT number FROM given ORDER BY place))[u.place]
    FROM unnest($16::text[], $17::text[], $18::integer[]) AS u(key, value, place)
)
SELECT ARRAY(SELECT number FROM given ORDER BY place), ARRAY(SELECT number FROM stored)
