DELETE FROM submissions s USING unnest($1::text[], $2::text[]) AS o(scope, name)
WHERE s.scope = o.scope AND s.name = o.name AND (s.at <= $3 OR s.at > $4)
