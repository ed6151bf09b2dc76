-- What an earlier attempt said is no part of it.
INSERT INTO job_said (number, attempt, percent, text, at, result) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
ON CONFLICT (number) DO UPDATE SET attempt = excluded.attempt,
    percent = coalesce(excluded.percent, iif(attempt = excluded.attempt, percent, NULL)),
    text = CASE WHEN excluded.percent IS NULL THEN iif(attempt = excluded.attempt, text, NULL) ELSE excluded.text END,
    at = coalesce(excluded.at, iif(attempt = excluded.attempt, at, NULL)),
    result = coalesce(excluded.result, iif(attempt = excluded.attempt, result, NULL))
