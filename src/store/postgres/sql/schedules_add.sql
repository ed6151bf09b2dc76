INSERT INTO schedules (id, tenant, name, created_at, version, then_version, then_from, paused, recorded_until, tail_from,
    next_due_at, last_due_at, last_skip_reason, removed_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
