SELECT name, sum(value)::bigint
FROM (SELECT name, value FROM tallies UNION ALL SELECT name, value FROM tally_deltas) AS both_of_them
GROUP BY name
