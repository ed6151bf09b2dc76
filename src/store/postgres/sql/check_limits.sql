SELECT 'limit ' || k.key || ' of ' || k.tenant || ' lets ' || k.max_running || ' run, and '
       || (SELECT count(*) FROM lanes o JOIN leases e ON e.lane = o.id WHERE o.tenant = k.tenant AND o.limit_key = k.key) || ' do'
FROM limits k
WHERE k.max_running <
      (SELECT count(*) FROM lanes o JOIN leases e ON e.lane = o.id WHERE o.tenant = k.tenant AND o.limit_key = k.key)
LIMIT 20
