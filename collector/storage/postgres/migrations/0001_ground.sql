-- What every process needs. Names and columns as in SQLite's schema (storage/migrations), whose words hold here too; `store`
-- is in every key. Times are milliseconds since 1970 (UTC). Columns ending in _k are 64-bit keyed hashes.

-- The server's clock, by which leases of several machines are held.
CREATE FUNCTION now_ms() RETURNS bigint LANGUAGE sql VOLATILE
    RETURN (extract(epoch FROM clock_timestamp()) * 1000)::bigint;

-- Until when (ms) all that was committed is seen here: ids of two keepers do not become visible in their order, and a
-- standby is as late as what it has replayed. Not volatile, for an index to be entered by it.
CREATE FUNCTION seen_ms() RETURNS bigint LANGUAGE sql STABLE
    RETURN CASE WHEN pg_is_in_recovery() THEN
        least(now_ms(), coalesce(floor(extract(epoch FROM pg_last_xact_replay_timestamp()) * 1000)::bigint, now_ms()))
    ELSE now_ms() END - 10000;

CREATE TABLE store (
    id   int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE
);
CREATE TABLE pixel (
    id   int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE
);
CREATE TABLE api_key (
    id      text PRIMARY KEY,
    hash    bytea NOT NULL UNIQUE,           -- SHA-256 of the key
    kind    text NOT NULL CHECK (kind IN ('secret', 'publishable')),
    store   text,                            -- NULL: every store
    created bigint NOT NULL,
    revoked bigint
);
CREATE TABLE pepper_check (
    one   boolean PRIMARY KEY DEFAULT true CHECK (one),
    value bytea NOT NULL
);

-- The numbers of edges, the middle of their ids: a keeper leases one. A number whose holder ended without a word is given
-- again only when all of its ids are looked through (`open`); the one that has rested longest goes first.
CREATE TABLE edge (
    number int PRIMARY KEY,
    owner  text NOT NULL DEFAULT '',         -- host and process
    until  bigint NOT NULL DEFAULT 0,        -- of the lease
    beat   bigint NOT NULL DEFAULT 0,        -- its last sign of life
    looked bigint NOT NULL DEFAULT 0,        -- of its ids, all below this are looked through after their commit
    open   boolean NOT NULL DEFAULT false,   -- it may have ids above
    living jsonb NOT NULL DEFAULT '{}'       -- what it says of itself
) WITH (fillfactor = 50);
INSERT INTO edge (number) SELECT generate_series(0, 1023);

-- Counts and sums that several edges add to at once: each in a row of its own, added up when they are read.
CREATE TABLE counter (
    day   int NOT NULL,                      -- days since 1970
    store int NOT NULL,
    name  text NOT NULL,
    edge  int NOT NULL,
    n     bigint NOT NULL,
    PRIMARY KEY (day, store, name, edge)
) WITH (fillfactor = 70);
CREATE TABLE total (
    name text NOT NULL,
    edge int NOT NULL,
    n    bigint NOT NULL,
    PRIMARY KEY (name, edge)
) WITH (fillfactor = 70);
CREATE TABLE refusal_sum (
    quarter int NOT NULL,                    -- ts / 900,000
    code    text NOT NULL,
    edge    int NOT NULL,
    n       bigint NOT NULL,
    PRIMARY KEY (quarter, code, edge)
);

CREATE TABLE heartbeat (
    process text PRIMARY KEY,                -- with its host, as several machines have one of each
    at      bigint NOT NULL,
    body    bytea NOT NULL                   -- JSON
) WITH (fillfactor = 50);
CREATE TABLE clock (
    host text PRIMARY KEY,                   -- the mark rests on a machine's own boot-time clock
    body bytea NOT NULL                      -- JSON, of storage/ground/clock.py
);
CREATE TABLE model (
    store   int NOT NULL,
    version text NOT NULL,
    created bigint NOT NULL,
    body    bytea NOT NULL,
    PRIMARY KEY (store, version)
);
CREATE TABLE erased (
    id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    store int NOT NULL,
    name  bigint NOT NULL,
    at    bigint NOT NULL
);
CREATE INDEX erased_at ON erased (at);
