UPDATE output SET bytes = substr(bytes, ?5 - place + 1), place = ?5
WHERE number = ?1 AND attempt = ?2 AND seq >= ?3 AND seq < ?4 AND place < ?5
