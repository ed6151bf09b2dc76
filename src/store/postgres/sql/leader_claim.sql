SELECT pg_try_advisory_lock(hashtextextended(current_schema() || E'\nhelm', 0))
