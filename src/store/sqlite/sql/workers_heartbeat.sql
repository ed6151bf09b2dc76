UPDATE workers SET heartbeat_at = ?2, boot = ?3, expires_boot = ?4, trouble = ?5 WHERE id = ?1
RETURNING state, secret_hash
