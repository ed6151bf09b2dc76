SELECT place, name, first, second
FROM (SELECT row_number() OVER (ORDER BY name) AS place, name, first, second
      FROM (SELECT 'worker ' || name AS name, offer AS first, NULL::text AS second FROM workers
            UNION ALL SELECT 'coordinator ' || name, peers, homes FROM nodes) everyone) places
WHERE place > $1 ORDER BY place LIMIT $2
