-- Clicks, by week of their id (storage/postgres/partitions.py makes the weeks); a week ends by DROP. Ids of SQLite lie below.
CREATE TABLE click (
    id        bigint NOT NULL,
    store     int NOT NULL,
    ts        bigint NOT NULL,
    last_ts   bigint NOT NULL,
    received  bigint NOT NULL,
    fbclid_k  bigint,
    visitor_k bigint,
    fbp_k     bigint,
    ip_k      bigint,
    ua_k      bigint,
    fp_k      bigint,
    ua_class  bigint NOT NULL,
    flags     int NOT NULL,
    body      bytea NOT NULL,
    -- What it counts as (0005_sums.sql), as storage/rules/counted.py reads it; of every row that is counted.
    place     int NOT NULL DEFAULT 0,
    apart     text,                          -- NULL: a person's
    PRIMARY KEY (id, store)
) PARTITION BY RANGE (id);
CREATE INDEX click_visitor ON click (store, visitor_k, received) WHERE visitor_k IS NOT NULL;
CREATE INDEX click_fbp ON click (store, fbp_k, received) WHERE fbp_k IS NOT NULL;
CREATE INDEX click_ip ON click (store, ip_k, received) INCLUDE (visitor_k) WHERE ip_k IS NOT NULL;
CREATE INDEX click_ip_ua ON click (store, (ip_k # ua_k), received) INCLUDE (visitor_k)
    WHERE ip_k IS NOT NULL AND ua_k IS NOT NULL;
CREATE INDEX click_fp ON click (store, fp_k, received) INCLUDE (visitor_k) WHERE fp_k IS NOT NULL;
CREATE TABLE click_sqlite PARTITION OF click FOR VALUES FROM (MINVALUE) TO (1099511627776);

CREATE TABLE click_network (
    id         bigint NOT NULL,
    store      int NOT NULL,
    ip         text,
    user_agent text,
    PRIMARY KEY (id, store)
) PARTITION BY RANGE (id);
CREATE TABLE click_network_sqlite PARTITION OF click_network FOR VALUES FROM (MINVALUE) TO (1099511627776);

-- Who was seen with which click: the same click is recognised by it, and orders find theirs.
CREATE TABLE sighting (
    store     int NOT NULL,
    fbclid_k  bigint NOT NULL,
    visitor_k bigint NOT NULL,               -- 0: nobody is named
    id        bigint NOT NULL,               -- of the click
    ts        bigint NOT NULL,               -- of the click
    PRIMARY KEY (store, fbclid_k, visitor_k)
);
CREATE INDEX sighting_ts ON sighting (ts);

CREATE TABLE conversion (
    id         bigint NOT NULL,
    store      int NOT NULL,
    ts         bigint NOT NULL,
    received   bigint NOT NULL,
    event_type text NOT NULL,
    dedup_k    bigint,
    fbclid_k   bigint,
    visitor_k  bigint,
    fbp_k      bigint,
    ip_k       bigint,
    ua_k       bigint,
    fp_k       bigint,
    ua_class   bigint NOT NULL,
    flags      int NOT NULL,
    click      bigint,
    confidence int,
    method     text,
    revision   int NOT NULL DEFAULT 0,
    capi       int NOT NULL,
    body       bytea NOT NULL,
    match      bytea NOT NULL,
    -- What it counts as (0005_sums.sql).
    place      int NOT NULL DEFAULT 0,       -- of the credited click
    tier       smallint NOT NULL DEFAULT 0,
    currency   text NOT NULL DEFAULT '',
    units      bigint NOT NULL DEFAULT 0,
    reversed   smallint NOT NULL DEFAULT 0,
    label      text,
    queued     boolean NOT NULL DEFAULT false, -- it has rows in the outbox, which say how it stands
    PRIMARY KEY (id, store)
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX conversion_dedup ON conversion (store, dedup_k) WHERE dedup_k IS NOT NULL;
CREATE INDEX conversion_ts ON conversion (store, ts);
CREATE INDEX conversion_purchase ON conversion (store, ts, id) WHERE event_type = 'Purchase';
CREATE INDEX conversion_click ON conversion (store, click) WHERE click IS NOT NULL;
CREATE INDEX conversion_fbclid ON conversion (store, fbclid_k, received) WHERE fbclid_k IS NOT NULL;
CREATE INDEX conversion_visitor ON conversion (store, visitor_k, received) WHERE visitor_k IS NOT NULL;
CREATE INDEX conversion_fbp ON conversion (store, fbp_k, received) WHERE fbp_k IS NOT NULL;
CREATE INDEX conversion_ip ON conversion (store, ip_k, received) WHERE ip_k IS NOT NULL;
CREATE INDEX conversion_fp ON conversion (store, fp_k, received) WHERE fp_k IS NOT NULL;

CREATE TABLE identity_link (
    store        int NOT NULL,
    kind         int NOT NULL,
    key          bigint NOT NULL,
    visitor_k    bigint NOT NULL,
    last_ts      bigint NOT NULL,
    first_ts     bigint NOT NULL DEFAULT 0,
    confirmed_ts bigint,
    source       bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (store, kind, key, visitor_k)
);
CREATE INDEX identity_link_visitor ON identity_link (store, visitor_k);
CREATE TABLE conversion_identity (
    store      int NOT NULL,
    conversion bigint NOT NULL,
    kind       int NOT NULL,
    key        bigint NOT NULL,
    PRIMARY KEY (store, conversion, kind, key)
);
CREATE INDEX conversion_identity_key ON conversion_identity (store, key);

CREATE TABLE idempotency (
    key_k     bigint PRIMARY KEY,
    body_hash bytea NOT NULL,
    expires   bigint NOT NULL,
    status    int NOT NULL,
    answer    bytea NOT NULL
);
CREATE TABLE unproven (
    store      int NOT NULL,
    ts         bigint NOT NULL,
    conversion bigint NOT NULL,
    PRIMARY KEY (store, ts, conversion)
);
CREATE TABLE reopened (
    store      int NOT NULL,
    conversion bigint NOT NULL,
    anyway     boolean NOT NULL DEFAULT false, -- also where its 96 hours are over: what it was given was taken back
    PRIMARY KEY (store, conversion)
);
CREATE TABLE unweighed (
    store      int NOT NULL,
    conversion bigint NOT NULL,
    PRIMARY KEY (store, conversion)
);
-- What was stored already and has changed, as it was known before: by its id nobody would find it who looks through what an
-- edge has left. `id` is of the edge that changed it, and the row goes once that has looked.
CREATE TABLE unlooked (
    id       bigint PRIMARY KEY,
    store    int NOT NULL,
    of_click boolean NOT NULL,               -- or of a conversion
    number   bigint NOT NULL,                -- its id
    before   bytea NOT NULL                  -- msgpack: the row without its bodies
);
CREATE INDEX unlooked_number ON unlooked (store, number);
CREATE TABLE event_clock (
    store         int NOT NULL,
    edge          int NOT NULL,
    ts            bigint NOT NULL,
    conversion_ts bigint NOT NULL,
    heard         bigint NOT NULL,
    PRIMARY KEY (store, edge)
) WITH (fillfactor = 50);
CREATE TABLE event_name (
    store   int NOT NULL,
    name    text NOT NULL,
    by_page int NOT NULL,
    PRIMARY KEY (store, name)
);
CREATE TABLE notice (
    store      int NOT NULL,
    conversion bigint NOT NULL,
    revision   int NOT NULL,
    at         bigint NOT NULL,
    PRIMARY KEY (store, conversion)
);

-- How common values are in a store: of clicks by the hour, their user agents by the day, visitors by the day as a sketch of
-- 1,024 registers (storage/rules/visitors.py), orders by the hour. Each edge writes rows of its own; who asks adds them up.
CREATE TABLE click_hour (
    store int NOT NULL,
    hour  bigint NOT NULL,                   -- since 1970
    edge  int NOT NULL,
    n     bigint NOT NULL,
    PRIMARY KEY (store, hour, edge)
) WITH (fillfactor = 70);
CREATE TABLE ua_day (
    store int NOT NULL,
    day   bigint NOT NULL,                   -- since 1970
    ua_k  bigint NOT NULL,
    edge  int NOT NULL,
    n     bigint NOT NULL,
    PRIMARY KEY (store, ua_k, day, edge)
) WITH (fillfactor = 70);
CREATE TABLE visitor_sketch (
    store     int NOT NULL,
    day       bigint NOT NULL,
    edge      int NOT NULL,
    registers bytea NOT NULL,
    PRIMARY KEY (store, day, edge)
) WITH (fillfactor = 50);
ALTER TABLE visitor_sketch ALTER COLUMN registers SET STORAGE PLAIN;
CREATE TABLE order_hour (
    store    int NOT NULL,
    kind     int NOT NULL,
    hour     bigint NOT NULL,
    edge     int NOT NULL,
    proven   bigint NOT NULL,
    unproven bigint NOT NULL,
    orders   bigint NOT NULL,
    PRIMARY KEY (store, kind, hour, edge)
) WITH (fillfactor = 70);

-- What Meta has of an order whose state changed while a request with it was under way, if it takes that one.
CREATE TABLE sent_before (
    store      int NOT NULL,
    conversion bigint NOT NULL,
    outbox     bigint PRIMARY KEY,
    value      text NOT NULL,
    looked     boolean NOT NULL DEFAULT false
);
CREATE INDEX sent_before_conversion ON sent_before (store, conversion);

CREATE TABLE shop_delivery (
    id         bytea PRIMARY KEY,
    at         bigint NOT NULL,
    store      int NOT NULL,
    webhook    text NOT NULL,
    topic      text NOT NULL,
    reason     text,
    conversion bigint
);
CREATE INDEX shop_delivery_at ON shop_delivery (at);
CREATE INDEX shop_delivery_conversion ON shop_delivery (store, conversion) WHERE conversion IS NOT NULL;
CREATE TABLE order_name (
    store      int NOT NULL,
    name       bigint NOT NULL,
    conversion bigint NOT NULL,
    number     int NOT NULL,
    PRIMARY KEY (store, name, conversion)
);
CREATE INDEX order_name_conversion ON order_name (store, conversion);
CREATE TABLE shop_note (
    store      int NOT NULL,
    kind       text NOT NULL,
    called     text NOT NULL,
    conversion bigint NOT NULL,
    at         bigint NOT NULL,
    PRIMARY KEY (store, kind, called)
);
CREATE INDEX shop_note_conversion ON shop_note (store, conversion);
CREATE TABLE shop_order (
    store      int NOT NULL,
    name       bigint NOT NULL,
    called     text NOT NULL,
    ts         bigint NOT NULL,
    status     text,
    value      text,
    currency   text NOT NULL,
    channel    text NOT NULL,
    reason     text,
    conversion bigint,
    seen       int NOT NULL,
    first      bigint NOT NULL,
    PRIMARY KEY (store, name)
);
CREATE INDEX shop_order_ts ON shop_order (store, ts);
CREATE UNIQUE INDEX shop_order_conversion ON shop_order (store, conversion) WHERE conversion IS NOT NULL;
CREATE TABLE shop_inbox (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    store    text NOT NULL,
    platform text NOT NULL,
    topic    text NOT NULL,
    seen     int NOT NULL,
    body     bytea NOT NULL
);
CREATE TABLE shop_request (
    id    text PRIMARY KEY,
    store text NOT NULL,
    kind  text NOT NULL,
    at    bigint NOT NULL,
    asked bytea NOT NULL,
    done  bigint,
    found int
);

-- Ends a statement whose rows were not all new: a name among them is taken by now, and all is undone.
CREATE FUNCTION expect(made bigint, wanted bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF made <> wanted THEN
        RAISE EXCEPTION 'a name is taken' USING ERRCODE = 'CC001';
    END IF;
END $$;
