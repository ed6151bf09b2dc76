SELECT 'run ' || r.id_text || ' counts ' || r.open || ' open tasks, and has ' || r.have
FROM (SELECT lower(hex(id)) AS id_text, open,
             (SELECT count(*) FROM run_tasks t JOIN jobs j ON j.number = t.number
              WHERE t.run = runs.seq AND t.kind <> 'last' AND j.finished_at IS NULL) AS have
      FROM runs) r
WHERE r.open <> r.have
LIMIT 20
