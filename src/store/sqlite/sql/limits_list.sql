SELECT tenant, key, max_running, running FROM limits ORDER BY tenant, key
