SELECT greatest(
    (SELECT max(expires_at - ttl) FROM leases),
    (SELECT max(expires_at - ttl) FROM workers),
    (SELECT max(expires_at - ttl) FROM nodes)
)
