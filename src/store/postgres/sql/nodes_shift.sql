UPDATE nodes SET expires_at = expires_at + $1
