-- Answers that changed after they were given, until `[alerts] revisions_url` has taken them (storage/outbox/notices.py).
CREATE TABLE notice (
    conversion INTEGER PRIMARY KEY,
    revision   INTEGER NOT NULL,
    at         INTEGER NOT NULL
) STRICT;
