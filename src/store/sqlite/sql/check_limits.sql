SELECT 'limit ' || k.key || ' of ' || k.tenant || ' counts ' || k.running || ' running, and has '
       || coalesce(sum(l.running), 0) || '; ' || k.max_running || ' may'
FROM limits k LEFT JOIN lanes l ON l.tenant = k.tenant AND l.limit_key = k.key
GROUP BY k.tenant, k.key
HAVING k.running <> coalesce(sum(l.running), 0)
LIMIT 20
