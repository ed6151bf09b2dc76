SELECT pg_advisory_unlock(hashtextextended(current_schema() || E'\nhelm', 0))
