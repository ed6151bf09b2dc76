-- What an earlier attempt said is no part of it.
INSERT INTO job_said (number, attempt, percent, text, at, result, result_is_text) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
ON CONFLICT (number) DO UPDATE SET attempt = excluded.attempt,
    percent = coalesce(excluded.percent, iif(attempt = excluded.attempt, percent, NULL)),
    text = CASE WHEN excluded.percent IS NULL THEN iif(attempt = excluded.attempt, text, NULL) ELSE excluded.text END,
    at = coalesce(excluded.at, iif(attempt = excluded.attempt, at, NULL)),
    result = coalesce(excluded.result, iif(attempt = excluded.attempt, result, NULL)),
    result_is_text = iif(excluded.result IS NULL, attempt = excluded.attempt AND result_is_text, excluded.result_is_text)
