SELECT id, name, hash, scopes, tenant, created_at, created_by, expires_at, revoked_at
FROM tokens WHERE id = ?1
