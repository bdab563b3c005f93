-- What the key of all names (the pepper, storage/ground/pepper.py) is known by: a keyed hash of a constant, which tells nothing
-- of the key. Rows that one key has named are nothing to another, so that no other one is taken beside them.
CREATE TABLE pepper_check (
    id    INTEGER PRIMARY KEY CHECK (id = 1),
    value BLOB NOT NULL
) STRICT;
