-- By which way which week's report has gone out ([alerts] weekly): claimed before it is sent, so that a restart repeats none.
CREATE TABLE weekly_sent (
    due     INTEGER NOT NULL,                -- the moment at which it was due (ms)
    channel TEXT NOT NULL,                   -- webhook or letter
    at      INTEGER NOT NULL,
    done    INTEGER NOT NULL,                -- 0 while it is on its way
    PRIMARY KEY (due, channel)
) STRICT, WITHOUT ROWID;
