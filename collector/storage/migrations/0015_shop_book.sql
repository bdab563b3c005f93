-- The shop's own count of its orders (storage/shop_book.py). name: keyed, as conversion.dedup_k. seen: 1 webhook, 2 pull,
-- 4 file. reason: why it will never be sent, where that is known. conversion: NULL where we know of the order only so.
CREATE TABLE shop_order (
    store      INTEGER NOT NULL,
    name       INTEGER NOT NULL,
    called     TEXT NOT NULL,                -- the order's number, for people
    ts         INTEGER NOT NULL,             -- ms, of the order
    status     TEXT,
    value      TEXT,                         -- what the shop stands to keep
    currency   TEXT NOT NULL,
    channel    TEXT NOT NULL,
    reason     TEXT,
    conversion INTEGER,
    seen       INTEGER NOT NULL,
    first      INTEGER NOT NULL,             -- ms, when we were first told
    PRIMARY KEY (store, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX shop_order_ts ON shop_order (store, ts);
CREATE UNIQUE INDEX shop_order_conversion ON shop_order (conversion) WHERE conversion IS NOT NULL;
CREATE TRIGGER shop_order_gone AFTER DELETE ON conversion BEGIN
    DELETE FROM shop_order WHERE conversion = OLD.id;
END;

-- Orders that a pull or a file has found, until an edge has read them (storage/shop_inbox.py).
CREATE TABLE shop_inbox (
    id       INTEGER PRIMARY KEY,
    store    TEXT NOT NULL,
    platform TEXT NOT NULL,                  -- a preset of config_loader/presets
    topic    TEXT NOT NULL,
    seen     INTEGER NOT NULL,               -- as shop_order.seen
    body     BLOB NOT NULL
) STRICT;

-- How far each shop was pulled. watermark: all that changed before it is here (ms); since: and after this.
CREATE TABLE shop_pull (
    store     TEXT PRIMARY KEY,
    since     INTEGER NOT NULL,
    watermark INTEGER NOT NULL,
    at        INTEGER NOT NULL,              -- the last try
    fault     TEXT                           -- why it failed
) STRICT, WITHOUT ROWID;

-- What a platform asked for a person: customers/redact, customers/data_request, shop/redact. asked: msgpack of
-- storage/shop_requests.py: Who, emptied once it is done.
CREATE TABLE shop_request (
    id    TEXT PRIMARY KEY,
    store TEXT NOT NULL,
    kind  TEXT NOT NULL,
    at    INTEGER NOT NULL,
    asked BLOB NOT NULL,
    done  INTEGER,
    found INTEGER                            -- orders that went, once it is done; NULL where it was dismissed
) STRICT, WITHOUT ROWID;
