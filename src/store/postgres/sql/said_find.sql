SELECT m.number, m.percent, m.text, m.at, m.result, m.result_is_text
FROM job_said m JOIN jobs j ON j.number = m.number AND j.attempt = m.attempt WHERE m.number = ANY($1::bigint[])
