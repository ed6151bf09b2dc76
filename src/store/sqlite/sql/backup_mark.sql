INSERT INTO meta (key, value) VALUES ('backup', ?1)
