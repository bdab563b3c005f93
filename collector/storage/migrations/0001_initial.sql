-- The first schema. Times are milliseconds since 1970 (UTC). Columns ending in _k are 64-bit keyed hashes (signed), NULL
-- when the value is absent or may not be used. Clicks and conversions carry no secondary index: look-ups go through the
-- derivable index database (storage/index/index.py), which costs each acknowledged insert nothing.

CREATE TABLE store (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE api_key (
    id      TEXT PRIMARY KEY,
    hash    BLOB NOT NULL UNIQUE,            -- SHA-256 of the key
    kind    TEXT NOT NULL CHECK (kind IN ('secret', 'publishable')),
    store   TEXT,                            -- NULL: every store
    created INTEGER NOT NULL,
    revoked INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE click (
    id        INTEGER PRIMARY KEY,           -- in order of arrival
    store     INTEGER NOT NULL,
    ts        INTEGER NOT NULL,              -- the click's own time: its first sighting
    last_ts   INTEGER NOT NULL,              -- its last sighting
    received  INTEGER NOT NULL,
    fbclid_k  INTEGER,
    visitor_k INTEGER,
    fbp_k     INTEGER,
    ip_k      INTEGER,
    ua_k      INTEGER,
    fp_k      INTEGER,
    ua_class  INTEGER NOT NULL,              -- packed platform, system and version (core/useragents.py)
    flags     INTEGER NOT NULL,              -- core/flags.py: bot, prefetch, denied, test, recovered …
    body      BLOB NOT NULL                  -- msgpack: fbclid, landing page, ids, consent
) STRICT;

-- Raw address and user agent live apart, so that they can be deleted after a few days by one range of ids.
CREATE TABLE click_network (
    id         INTEGER PRIMARY KEY,
    ip         TEXT,
    user_agent TEXT
) STRICT;

CREATE TABLE conversion (
    id         INTEGER PRIMARY KEY,          -- in order of arrival
    store      INTEGER NOT NULL,
    ts         INTEGER NOT NULL,
    received   INTEGER NOT NULL,
    event_type TEXT NOT NULL,
    dedup_k    INTEGER,                      -- of (store, event type, order or event id)
    fbclid_k   INTEGER,
    visitor_k  INTEGER,
    fbp_k      INTEGER,
    ip_k       INTEGER,
    ua_k       INTEGER,
    fp_k       INTEGER,
    ua_class   INTEGER NOT NULL,
    flags      INTEGER NOT NULL,
    click      INTEGER,                      -- the credited click
    confidence INTEGER,                      -- 1..99 when attributed
    method     TEXT,
    revision   INTEGER NOT NULL DEFAULT 0,
    capi       INTEGER NOT NULL,             -- capiStatus, core/capi/states.py
    body       BLOB NOT NULL,                -- msgpack StoredEvent
    match      BLOB NOT NULL                 -- msgpack Match: evidence, rivals, model version
) STRICT;

CREATE INDEX conversion_click ON conversion (click) WHERE click IS NOT NULL;

-- Who is who: an identity value (e-mail, phone, external id) seen with a visitor. One hop only.
CREATE TABLE identity_link (
    store     INTEGER NOT NULL,
    kind      INTEGER NOT NULL,
    key       INTEGER NOT NULL,
    visitor_k INTEGER NOT NULL,
    last_ts   INTEGER NOT NULL,
    PRIMARY KEY (store, kind, key, visitor_k)
) STRICT, WITHOUT ROWID;
CREATE INDEX identity_link_visitor ON identity_link (store, visitor_k);

-- Which identity values a conversion carries: for what a later link between value and visitor changes, and for erasure.
CREATE TABLE conversion_identity (
    conversion INTEGER NOT NULL,
    kind       INTEGER NOT NULL,
    key        INTEGER NOT NULL,
    PRIMARY KEY (conversion, kind, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX conversion_identity_key ON conversion_identity (key);

CREATE TABLE pixel (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE                -- Meta's pixel or dataset id
) STRICT;

-- One event for one pixel: small rows, because each is written twice (insert, settle) and counted often.
CREATE TABLE outbox (
    id         INTEGER PRIMARY KEY,          -- in order of arrival
    conversion INTEGER NOT NULL,
    pixel      INTEGER NOT NULL,
    state      INTEGER NOT NULL,             -- core/capi/states.py
    lane       INTEGER NOT NULL,             -- 0 Purchase, 1 others
    created    INTEGER NOT NULL,
    due        INTEGER NOT NULL,             -- queued: waits for company until then; retrying: not before
    deadline   INTEGER NOT NULL,             -- the last moment at which Meta takes it
    attempts   INTEGER NOT NULL DEFAULT 0,
    doubts     INTEGER NOT NULL DEFAULT 0,   -- attempts of which nobody knows whether Meta took them
    doubt_at   INTEGER,                      -- the first of those
    settled    INTEGER,                      -- NULL while queued, retrying or held
    request    INTEGER,                      -- the last attempt; earlier ones are in attempt
    test_code  TEXT,                         -- the caller's own test_event_code
    reason     TEXT                          -- plain words, for people
) STRICT;
CREATE INDEX outbox_due ON outbox (pixel, state, lane, due) WHERE settled IS NULL;
CREATE INDEX outbox_deadline ON outbox (pixel, deadline) WHERE settled IS NULL AND state < 2;
CREATE INDEX outbox_conversion ON outbox (conversion);
CREATE INDEX outbox_dead ON outbox (settled) WHERE state IN (11, 12);  -- rejected and expired: few, and asked for

-- The encoded Conversions API event of an outbox row. Apart from it, so that settling does not rewrite 1.2 KB per event.
CREATE TABLE outbox_payload (
    id   INTEGER PRIMARY KEY,
    body BLOB NOT NULL
) STRICT;

-- One request to Meta. While it is in flight it is the lease on its events: `ids` (msgpack) names them. One that a new
-- courier finds in flight was cut off by a crash, and nobody knows whether Meta took it.
CREATE TABLE request (
    id          INTEGER PRIMARY KEY,
    pixel       INTEGER NOT NULL,
    at          INTEGER NOT NULL,
    events      INTEGER NOT NULL,
    outcome     TEXT NOT NULL,               -- in_flight, sent, then the classes of core/capi/verdicts.py
    http_status INTEGER,
    code        INTEGER,
    subcode     INTEGER,
    trace_id    TEXT,
    message     TEXT,
    took_ms     INTEGER,
    lease_owner TEXT,
    lease_until INTEGER,
    ids         BLOB
) STRICT;
CREATE INDEX request_in_flight ON request (pixel) WHERE outcome = 'in_flight';

-- Attempts before an event's last one (outbox.request).
CREATE TABLE attempt (
    outbox  INTEGER NOT NULL,
    request INTEGER NOT NULL,
    PRIMARY KEY (outbox, request)
) STRICT, WITHOUT ROWID;

CREATE TABLE pixel_state (
    pixel      INTEGER PRIMARY KEY,
    state      TEXT NOT NULL,                -- open, throttled, failing, blocked
    since      INTEGER NOT NULL,
    until      INTEGER,
    reason     TEXT,
    token_hash BLOB                          -- of the token that was refused; a new one resumes the queue
) STRICT;

CREATE TABLE idempotency (
    key_k     INTEGER PRIMARY KEY,
    body_hash BLOB NOT NULL,
    expires   INTEGER NOT NULL,
    status    INTEGER NOT NULL,
    answer    BLOB NOT NULL
) STRICT;

-- Small running counts per day: bots by reason, dropped optional fields, ambiguities, throttles …
CREATE TABLE counter (
    day   INTEGER NOT NULL,                  -- days since 1970
    store INTEGER NOT NULL,
    name  TEXT NOT NULL,
    n     INTEGER NOT NULL,
    PRIMARY KEY (day, store, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE model (
    store   INTEGER NOT NULL,
    version TEXT NOT NULL,
    created INTEGER NOT NULL,
    body    BLOB NOT NULL,
    PRIMARY KEY (store, version)
) STRICT, WITHOUT ROWID;

-- A process's last sign of life and its figures, for the console and `status`.
CREATE TABLE heartbeat (
    process TEXT PRIMARY KEY,
    at      INTEGER NOT NULL,
    body    BLOB NOT NULL                    -- JSON
) STRICT, WITHOUT ROWID;
