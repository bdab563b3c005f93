-- Running totals since the installation began: requests by verb and status, left-out fields … They are never deleted and
-- never go down, which Prometheus asks of a counter; `counter` has the same by day and store, for a while.
CREATE TABLE total (
    name TEXT PRIMARY KEY,
    n    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
