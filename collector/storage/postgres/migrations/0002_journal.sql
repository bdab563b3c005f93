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
    PRIMARY KEY (id, store)
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX conversion_dedup ON conversion (store, dedup_k) WHERE dedup_k IS NOT NULL;
CREATE INDEX conversion_ts ON conversion (store, ts);
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
    PRIMARY KEY (store, conversion)
);
CREATE TABLE unweighed (
    store      int NOT NULL,
    conversion bigint NOT NULL,
    PRIMARY KEY (store, conversion)
);
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
