SELECT id FROM lanes WHERE queue = $1 AND tenant = $2 AND limit_key = $3 AND needs = $4
