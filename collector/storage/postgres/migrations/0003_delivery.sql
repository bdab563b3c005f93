-- The outbox, as in SQLite's schema. A courier holds pixels, not rows: throttles and probes belong to a pixel.
CREATE TABLE outbox (
    id         bigint NOT NULL,
    store      int NOT NULL,
    conversion bigint NOT NULL,
    pixel      int NOT NULL,
    state      int NOT NULL,
    lane       int NOT NULL,
    created    bigint NOT NULL,
    due        bigint NOT NULL,
    deadline   bigint NOT NULL,
    attempts   int NOT NULL DEFAULT 0,
    doubts     int NOT NULL DEFAULT 0,
    doubt_at   bigint,
    settled    bigint,
    request    bigint,
    test_code  text,
    reason     text,
    -- Of its conversion, as it counts (0005_sums.sql): its name, when it happened, and whether it is a sale.
    event      text NOT NULL DEFAULT '',
    quarter    int NOT NULL DEFAULT 0,
    sale       boolean NOT NULL DEFAULT false,
    PRIMARY KEY (id, store)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_analyze_scale_factor = 0.01);
CREATE INDEX outbox_due ON outbox (pixel, state, lane, due) WHERE settled IS NULL;
CREATE INDEX outbox_deadline ON outbox (pixel, deadline) WHERE settled IS NULL AND state < 2;
CREATE INDEX outbox_conversion ON outbox (store, conversion);
CREATE INDEX outbox_dead ON outbox (settled) WHERE state IN (11, 12);

CREATE TABLE outbox_payload (
    id    bigint NOT NULL,
    store int NOT NULL,
    body  bytea NOT NULL,
    PRIMARY KEY (id, store)
);
CREATE TABLE request (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    pixel       int NOT NULL,
    at          bigint NOT NULL,
    events      int NOT NULL,
    outcome     text NOT NULL,
    http_status int,
    code        int,
    subcode     int,
    trace_id    text,
    message     text,
    took_ms     int,
    epoch       bigint NOT NULL,             -- of the pixel's lease
    ids         bigint[]                     -- of its events, while it is in flight
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_analyze_scale_factor = 0.01);
CREATE INDEX request_in_flight ON request (pixel) WHERE outcome = 'in_flight';
CREATE TABLE attempt (
    outbox  bigint NOT NULL,
    request bigint NOT NULL,
    PRIMARY KEY (outbox, request)
);
CREATE TABLE pixel_state (
    pixel      int PRIMARY KEY,
    state      text NOT NULL,
    since      bigint NOT NULL,
    until      bigint,
    reason     text,
    token_hash bytea
);
CREATE TABLE pixel_lease (
    pixel int PRIMARY KEY,
    owner text NOT NULL DEFAULT '',
    until bigint NOT NULL DEFAULT 0,         -- by now_ms()
    epoch bigint NOT NULL DEFAULT 0          -- one more with each owner
) WITH (fillfactor = 50);
-- The couriers that are there, which share the pixels.
CREATE TABLE courier (
    owner text PRIMARY KEY,
    until bigint NOT NULL                    -- by now_ms()
) WITH (fillfactor = 50);
