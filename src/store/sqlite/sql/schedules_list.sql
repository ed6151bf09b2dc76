SELECT * FROM schedule_rows
WHERE (?1 IS NULL OR tenant = ?1) AND (?2 OR removed_at IS NULL) AND (?3 IS NULL OR (tenant, name, id) > (?3, ?4, ?5))
ORDER BY tenant, name, id LIMIT ?6
