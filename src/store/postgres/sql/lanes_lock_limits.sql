SELECT k.key FROM limits k
WHERE (k.tenant, k.key) IN (SELECT * FROM unnest($1::text[], $2::text[]))
ORDER BY k.tenant, k.key FOR NO KEY UPDATE
