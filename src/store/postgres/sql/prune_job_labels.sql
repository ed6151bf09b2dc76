DELETE FROM job_labels WHERE number = ANY($1::bigint[])
