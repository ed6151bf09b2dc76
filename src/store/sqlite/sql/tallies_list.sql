SELECT name, value FROM tallies
