-- Where the boot clock was not read precisely ($3 is empty) the mark stays as it was.
UPDATE leader SET seen_at = $2, marked_at = CASE WHEN $3 = '' THEN marked_at ELSE $2 END,
    boot = CASE WHEN $3 = '' THEN boot ELSE $3 END, marked_boot = CASE WHEN $3 = '' THEN marked_boot ELSE $4 END
WHERE id = 1 AND epoch = $1 AND NOT released RETURNING epoch
