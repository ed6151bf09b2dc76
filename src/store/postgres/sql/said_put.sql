INSERT INTO job_said AS s (number, percent, text, at, result) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (number) DO UPDATE SET percent = coalesce(excluded.percent, s.percent),
    text = CASE WHEN excluded.percent IS NULL THEN s.text ELSE excluded.text END,
    at = coalesce(excluded.at, s.at), result = coalesce(excluded.result, s.result)
