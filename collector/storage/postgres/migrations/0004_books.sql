-- What couriers do beside delivery, one of them at a time.

CREATE TABLE duty (
    name  text PRIMARY KEY,
    owner text NOT NULL,
    until bigint NOT NULL,                   -- by now_ms()
    epoch bigint NOT NULL                    -- one more with each owner
) WITH (fillfactor = 50);

-- As in SQLite's schema.
CREATE TABLE renamed (
    id         int PRIMARY KEY CHECK (id = 1),
    conversion bigint NOT NULL
);
CREATE TABLE shop_pull (
    store     text PRIMARY KEY,
    since     bigint NOT NULL,
    watermark bigint NOT NULL,
    at        bigint NOT NULL,
    fault     text
);
CREATE TABLE insight (
    account        text NOT NULL,
    day            int NOT NULL,
    ad             text NOT NULL,
    currency       text NOT NULL,
    reading        bigint NOT NULL,
    spend          bigint NOT NULL,
    impressions    bigint NOT NULL,
    clicks         bigint NOT NULL,
    link_clicks    bigint NOT NULL,
    purchases      bigint NOT NULL,
    purchase_units bigint NOT NULL,
    PRIMARY KEY (account, day, ad, currency)
);
CREATE TABLE insight_ad (
    account       text NOT NULL,
    ad            text NOT NULL,
    ad_name       text NOT NULL,
    adset         text NOT NULL,
    adset_name    text NOT NULL,
    campaign      text NOT NULL,
    campaign_name text NOT NULL,
    PRIMARY KEY (account, ad)
);
CREATE TABLE insight_account (
    account  text PRIMARY KEY,
    reading  bigint NOT NULL,
    currency text,
    timezone text,
    since    int,
    until    int,
    at       bigint,
    unread   bigint NOT NULL,
    fault    text,
    fault_at bigint
);
CREATE TABLE share (
    id      text PRIMARY KEY,
    store   text NOT NULL,
    first   text NOT NULL,
    last    text NOT NULL,
    event   text NOT NULL,
    made    bigint NOT NULL,
    expires bigint NOT NULL,
    revoked bigint
);
CREATE TABLE weekly_sent (
    due     bigint NOT NULL,
    channel text NOT NULL,
    at      bigint NOT NULL,
    done    int NOT NULL,
    PRIMARY KEY (due, channel)
);
CREATE TABLE refusal (
    id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at     bigint NOT NULL,
    code   text NOT NULL,
    field  text NOT NULL,
    called text NOT NULL
);
