INSERT INTO job_said (number, percent, text, at, result) VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT (number) DO UPDATE SET percent = coalesce(excluded.percent, percent),
    text = CASE WHEN excluded.percent IS NULL THEN text ELSE excluded.text END,
    at = coalesce(excluded.at, at), result = coalesce(excluded.result, result)
