INSERT INTO unreadable SELECT unnest($1::bigint[]) ON CONFLICT DO NOTHING
