UPDATE schedules SET version = ?2, then_version = ?3, then_from = ?4, paused = ?5, recorded_until = ?6, tail_from = ?7,
    next_due_at = ?8, last_due_at = ?9, last_skip_reason = ?10, removed_at = ?11
WHERE id = ?1
