SELECT number FROM names WHERE tenant = $1 AND name = $2
