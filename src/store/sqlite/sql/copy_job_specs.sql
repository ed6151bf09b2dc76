(SELECT number, json_extract(spec, '$.name') AS name, spec, captured, origin FROM job_specs)
