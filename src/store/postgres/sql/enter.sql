-- What a transaction goes by, for as long as it lasts: behind a pooler the session may be another client's afterwards. First the server's process, which tells whether it is the
-- one that this connection began with. Plans by rule and not by statistics, which say nothing of a table that fills and empties all day.
SELECT pg_backend_pid(), set_config('search_path', $1, true), set_config('statement_timeout', $2, true), set_config('lock_timeout', $3, true),
    set_config('idle_in_transaction_session_timeout', $4, true), set_config('plan_cache_mode', 'force_generic_plan', true), set_config('enable_seqscan', 'off', true),
    set_config('jit', 'off', true), set_config('timezone', 'UTC', true), set_config('client_min_messages', 'warning', true)
