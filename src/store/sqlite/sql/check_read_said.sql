SELECT number, 'what job ' || number || ' said', result FROM job_said WHERE result IS NOT NULL ORDER BY number
