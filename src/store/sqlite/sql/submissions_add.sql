INSERT INTO submissions (scope, name, at, count) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (scope, name, at) DO UPDATE SET count = count + excluded.count
