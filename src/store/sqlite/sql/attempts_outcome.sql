SELECT outcome FROM attempts WHERE number = ?1 AND attempt = ?2
