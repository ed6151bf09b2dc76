-- One that came after the present time came before the clock was set back.
SELECT min(ttl) FROM workers WHERE NOT (expires_boot <= ?2 OR boot <> ?1 AND expires_boot > ?2 + ttl) AND (started_at <= ?3 OR started_at > ?4)
