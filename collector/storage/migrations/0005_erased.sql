-- Names (keyed hashes) of what belonged to an erased person: an order, a visitor, an e-mail address … Nothing else is
-- left that they could be joined with. What is told late about that person is refused by them, and what a browser or a
-- shop still carries of the old names is not linked again (storage/erased.py).
CREATE TABLE erased (
    id    INTEGER PRIMARY KEY,
    store INTEGER NOT NULL,
    name  INTEGER NOT NULL,
    at    INTEGER NOT NULL                   -- when, ms
) STRICT;
CREATE INDEX erased_at ON erased (at);
