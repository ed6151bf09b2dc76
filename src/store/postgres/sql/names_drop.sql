DELETE FROM names WHERE number = $1
