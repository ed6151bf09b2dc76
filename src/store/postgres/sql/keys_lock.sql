-- One at a time: whoever asks for the same word next sees what this transaction made of it.
SELECT pg_advisory_xact_lock(hashtextextended(current_schema() || E'\n' || $1 || E'\n' || $2 || E'\n' || $3, 0))
