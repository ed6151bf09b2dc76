UPDATE jobs SET state = ?2, attempt = ?3, generation = ?4, failures = ?5, losses = ?6, interruptions = ?7,
    streak = ?8, unstarted = ?9, unstarted_alone = ?10, waiting = ?11, due_at = ?12, deadline_at = ?13, reason = ?14,
    finished_at = ?15, cancel_requested_at = ?16, last_seq = ?18
WHERE number = ?1 AND state = ?17
