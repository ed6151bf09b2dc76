SELECT type, name, sql FROM sqlite_schema WHERE tbl_name <> 'manifest'
