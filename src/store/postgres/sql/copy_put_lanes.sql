WITH u AS (
    SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[])
        AS u(id, queue, tenant, limit_key, needs, served)
), made AS (
    INSERT INTO lanes (id, queue, tenant, limit_key, needs) OVERRIDING SYSTEM VALUE
    SELECT id, queue, tenant, limit_key, needs FROM u
)
INSERT INTO lane_turns (lane, served) SELECT id, served FROM u
