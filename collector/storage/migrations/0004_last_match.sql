-- Conversions that no proof names, until they are matched a last time when their 96 hours are over (storage/journal/late.py).
CREATE TABLE unproven (
    store      INTEGER NOT NULL,
    ts         INTEGER NOT NULL,             -- the conversion's own
    conversion INTEGER NOT NULL,
    PRIMARY KEY (store, ts, conversion)
) STRICT, WITHOUT ROWID;

-- How far each store's event time has come, so that a restart opens nothing again.
CREATE TABLE event_clock (
    store         INTEGER PRIMARY KEY,
    ts            INTEGER NOT NULL,          -- the latest of anything in the store
    conversion_ts INTEGER NOT NULL,
    heard         INTEGER NOT NULL           -- when, by our own clock, the store last told us anything
) STRICT;

-- When (event time) a value was first seen with a visitor: a conversion looks at what was so within its 96 hours.
ALTER TABLE identity_link ADD COLUMN first_ts INTEGER NOT NULL DEFAULT 0;
