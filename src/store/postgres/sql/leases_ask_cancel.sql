UPDATE leases SET cancel = $2 WHERE number = $1
