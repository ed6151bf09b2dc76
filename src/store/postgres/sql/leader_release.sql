UPDATE leader SET released = true WHERE id = 1 AND epoch = $1
