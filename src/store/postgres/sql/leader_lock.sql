SELECT pg_advisory_xact_lock(hashtextextended(current_schema() || E'\nleader', 0))
