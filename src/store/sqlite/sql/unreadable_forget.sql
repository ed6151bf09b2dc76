DELETE FROM unreadable WHERE number = ?1
