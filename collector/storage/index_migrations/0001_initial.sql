-- The index database beside the tables that storage/rules/tables.py names: all of it can be rebuilt from the main database.
CREATE TABLE watermark (subject TEXT PRIMARY KEY, id INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE bucket (
    subject        TEXT NOT NULL,
    bucket         INTEGER NOT NULL,
    first_received INTEGER NOT NULL,
    PRIMARY KEY (subject, bucket)
) STRICT, WITHOUT ROWID;
CREATE TABLE click_hour (
    store INTEGER NOT NULL,
    hour  INTEGER NOT NULL,
    n     INTEGER NOT NULL,
    PRIMARY KEY (store, hour)
) STRICT, WITHOUT ROWID;
CREATE TABLE ua_week (
    store INTEGER NOT NULL,
    week  INTEGER NOT NULL,
    ua_k  INTEGER NOT NULL,
    n     INTEGER NOT NULL,
    PRIMARY KEY (store, week, ua_k)
) STRICT, WITHOUT ROWID;
CREATE TABLE visitor_sketch (
    store    INTEGER NOT NULL,
    week     INTEGER NOT NULL,
    register INTEGER NOT NULL,
    rank     INTEGER NOT NULL,
    PRIMARY KEY (store, week, register)
) STRICT, WITHOUT ROWID;
