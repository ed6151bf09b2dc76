SELECT queue, tenant, limit_key FROM lanes WHERE id = ?1
