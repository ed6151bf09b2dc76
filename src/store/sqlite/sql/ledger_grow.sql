UPDATE occurrences SET until = ?3, count = count + ?4 WHERE schedule = ?1 AND due_at = ?2 AND state = 'skipped'
