SELECT 'job ' || number || ' has no description' FROM jobs WHERE number NOT IN (SELECT number FROM job_specs) LIMIT 20
