SELECT v.version, 'version ' || v.version || ' of schedule ' || coalesce(s.name, lower(hex(v.schedule))), v.definition
FROM schedule_versions v LEFT JOIN schedules s ON s.id = v.schedule
ORDER BY v.schedule, v.version
