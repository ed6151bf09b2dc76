-- Who says at this moment that it lives is not lost.
SELECT id FROM workers WHERE expires_at <= $1 ORDER BY id FOR UPDATE SKIP LOCKED
