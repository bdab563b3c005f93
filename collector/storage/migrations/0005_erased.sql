-- Names (keyed hashes) of what belonged to an erased person: an order, a visitor, an e-mail address … Nothing else is
-- left that they could be joined with. What is told late about that person is refused by them, and what a browser or a
-- shop still carries of the old names is not linked again (storage/people/erased.py).
CREATE TABLE erased (
    id    INTEGER PRIMARY KEY,
    store INTEGER NOT NULL,
    name  INTEGER NOT NULL,
    at    INTEGER NOT NULL                   -- when, ms
) STRICT;
CREATE INDEX erased_at ON erased (at);

-- Entries that are to leave the index because their rows, or their rows' keys, are gone: written with that, taken out of
-- the index by the next folder that looks, and then forgotten here too.
CREATE TABLE leaving (
    id      INTEGER PRIMARY KEY,
    subject TEXT NOT NULL,                   -- click or conversion
    key     TEXT NOT NULL,                   -- the index table's key
    name    INTEGER NOT NULL,                -- its low 44 bits
    row     INTEGER NOT NULL
) STRICT;
