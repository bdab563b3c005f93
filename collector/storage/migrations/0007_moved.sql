-- Clicks whose first sighting became known after they were stored: written with the click's new time, taken to the
-- index's entries and sums by the next folder that looks, and then forgotten here (storage/moving.py). The numbers are
-- never given twice: the index notes how far it has come.
CREATE TABLE moved (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    click     INTEGER NOT NULL,
    before_ts INTEGER NOT NULL,              -- ms
    after_ts  INTEGER NOT NULL
) STRICT;
