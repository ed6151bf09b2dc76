SELECT * FROM schedule_rows
WHERE ($1::text IS NULL OR tenant = $1) AND ($2::boolean OR removed_at IS NULL)
  AND ($3::text IS NULL OR (tenant, name, id) > ($3, $4::text, $5::uuid))
ORDER BY tenant, name, id LIMIT $6
