-- The mark that the trusted now rests on, one row (storage/ground/clock.py).
CREATE TABLE clock (
    id   INTEGER PRIMARY KEY CHECK (id = 1),
    body BLOB NOT NULL                       -- JSON
) STRICT;
