SELECT place, name, definition
FROM (SELECT row_number() OVER (ORDER BY v.schedule, v.version) AS place,
             'version ' || v.version || ' of schedule ' || coalesce(s.name, v.schedule::text) AS name, v.definition
      FROM schedule_versions v LEFT JOIN schedules s ON s.id = v.schedule) versions
WHERE place > $1 ORDER BY place LIMIT $2
