DELETE FROM unreadable WHERE number = ANY($1::bigint[])
