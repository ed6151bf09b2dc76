INSERT INTO meta (key, value) VALUES ('replaced', 'yes') ON CONFLICT (key) DO NOTHING
