WITH gone AS (
    DELETE FROM tally_deltas WHERE ctid = ANY(ARRAY(SELECT ctid FROM tally_deltas LIMIT $1)) RETURNING *
)
INSERT INTO tallies AS t SELECT name, sum(value) FROM gone GROUP BY name
ON CONFLICT (name) DO UPDATE SET value = t.value + excluded.value
