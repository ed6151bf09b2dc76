SELECT m.percent, m.text, m.at, m.result FROM job_said m JOIN jobs j ON j.number = m.number AND j.attempt = m.attempt
WHERE m.number = ?1
