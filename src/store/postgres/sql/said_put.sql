-- What an earlier attempt said is no part of it.
INSERT INTO job_said AS s (number, attempt, percent, text, at, result, result_is_text) VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (number) DO UPDATE SET attempt = excluded.attempt,
    percent = coalesce(excluded.percent, CASE WHEN s.attempt = excluded.attempt THEN s.percent END),
    text = CASE WHEN excluded.percent IS NOT NULL THEN excluded.text WHEN s.attempt = excluded.attempt THEN s.text END,
    at = coalesce(excluded.at, CASE WHEN s.attempt = excluded.attempt THEN s.at END),
    result = coalesce(excluded.result, CASE WHEN s.attempt = excluded.attempt THEN s.result END),
    result_is_text = CASE WHEN excluded.result IS NULL THEN s.attempt = excluded.attempt AND s.result_is_text ELSE excluded.result_is_text END
