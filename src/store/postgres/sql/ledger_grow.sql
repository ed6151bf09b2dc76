UPDATE occurrences o SET until = u.until, count = o.count + u.count
FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[]) AS u(schedule, due_at, until, count)
WHERE o.schedule = u.schedule AND o.due_at = u.due_at AND o.state = 'skipped'
RETURNING o.id
