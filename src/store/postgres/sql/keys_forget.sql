UPDATE idempotency SET expires_at = $2, state = $3 WHERE number = $1
