(SELECT name, sum(value)::bigint AS value
 FROM (SELECT name, value FROM tallies UNION ALL SELECT name, value FROM tally_deltas) AS t GROUP BY name) AS o
