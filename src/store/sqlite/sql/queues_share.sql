INSERT INTO queues (name, shared) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET shared = excluded.shared
