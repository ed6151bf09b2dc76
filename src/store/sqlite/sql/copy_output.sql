(SELECT * FROM side.output
 UNION ALL
 SELECT * FROM main.output o WHERE NOT EXISTS (SELECT 1 FROM side.output s
    WHERE s.number = o.number AND s.attempt = o.attempt AND s.seq = o.seq))
