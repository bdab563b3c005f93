-- Links that show some days' sums of a shop without a log-in (`collector share`). A link counts while it stands here, is not
-- revoked and has not expired; its token is signed and not kept.
CREATE TABLE share (
    id      TEXT PRIMARY KEY,
    store   TEXT NOT NULL,
    first   TEXT NOT NULL,                   -- days of the shop, both included
    last    TEXT NOT NULL,
    event   TEXT NOT NULL,
    made    INTEGER NOT NULL,                -- ms
    expires INTEGER NOT NULL,
    revoked INTEGER
) STRICT, WITHOUT ROWID;
