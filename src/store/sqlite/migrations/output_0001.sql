-- The second file: output that is too large or too early to travel with an outcome (S28).
CREATE TABLE output (
    number  INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    seq     INTEGER NOT NULL,
    stream  INTEGER NOT NULL CHECK (stream IN (1, 2)),
    at      INTEGER NOT NULL,
    place   INTEGER NOT NULL,
    bytes   BLOB NOT NULL,
    PRIMARY KEY (number, attempt, seq)
) STRICT, WITHOUT ROWID;
