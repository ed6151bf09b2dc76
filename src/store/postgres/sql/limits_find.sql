SELECT max_running FROM limits WHERE tenant = $1 AND key = $2
