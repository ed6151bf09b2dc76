UPDATE workers SET heartbeat_at = $2, expires_at = $3, trouble = $4 WHERE id = $1 RETURNING state, secret_hash
