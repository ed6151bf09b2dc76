SELECT k.tenant, k.key, k.max_running,
       (SELECT count(*) FROM lanes o JOIN leases e ON e.lane = o.id WHERE o.tenant = k.tenant AND o.limit_key = k.key)
FROM limits k ORDER BY k.tenant, k.key
