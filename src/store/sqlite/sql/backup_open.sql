DROP TABLE manifest;
DELETE FROM meta WHERE key = 'backup'
