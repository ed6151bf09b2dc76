DELETE FROM occurrences WHERE schedule = $1 AND due_at = $2 AND state = 'skipped'
