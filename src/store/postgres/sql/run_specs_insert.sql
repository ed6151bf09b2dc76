INSERT INTO run_specs (seq, spec, captured) VALUES ($1, $2, $3)
