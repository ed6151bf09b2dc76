DELETE FROM leases WHERE number = ?1 AND attempt = ?2
