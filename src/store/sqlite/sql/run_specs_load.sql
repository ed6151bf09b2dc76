SELECT spec, captured FROM run_specs WHERE seq = ?1
