-- One that came after the present time came before the clock was set back.
SELECT min(ttl) FROM workers WHERE expires_at > $1 AND (started_at <= $2 OR started_at > $1)
