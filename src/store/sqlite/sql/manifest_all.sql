SELECT name, rows, checksum FROM manifest
