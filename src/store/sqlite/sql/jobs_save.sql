UPDATE jobs SET state = ?2, attempt = ?3, generation = ?4, failures = ?5, losses = ?6, interruptions = ?7,
    streak = ?8, waiting = ?9, due_at = ?10, deadline_at = ?11, reason = ?12, finished_at = ?13, cancel_requested_at = ?14,
    last_seq = ?16
WHERE number = ?1 AND state = ?15
