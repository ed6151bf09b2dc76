UPDATE workers SET heartbeat_at = $2, expires_at = $3 WHERE id = $1 RETURNING state
