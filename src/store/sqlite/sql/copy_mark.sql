INSERT INTO meta (key, value) VALUES (?1, 'yes') ON CONFLICT (key) DO NOTHING
