UPDATE idempotency SET expires_at = $2 WHERE number = $1
