-- Clicks that changed after they were stored, as they were before: written with the change, followed by the index's
-- entries and sums when the next folder looks, and then forgotten here (storage/index/changing.py). The numbers are never given
-- twice: the index notes how far it has come.
CREATE TABLE changed_click (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    click     INTEGER NOT NULL,
    ts        INTEGER NOT NULL,              -- ms
    visitor_k INTEGER,
    fbp_k     INTEGER,
    ip_k      INTEGER,
    ua_k      INTEGER,
    fp_k      INTEGER,
    flags     INTEGER NOT NULL
) STRICT;
