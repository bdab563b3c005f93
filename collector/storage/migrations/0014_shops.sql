-- What shops sent in the last eight days (storage/journal/shop_orders.py). id: SHA-256 of store, webhook, topic, the sender's own id
-- and the body. reason: why nothing came of it; else conversion.
CREATE TABLE shop_delivery (
    id         BLOB PRIMARY KEY,
    at         INTEGER NOT NULL,             -- ms
    store      INTEGER NOT NULL,
    webhook    TEXT NOT NULL,
    topic      TEXT NOT NULL,
    reason     TEXT,
    conversion INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX shop_delivery_at ON shop_delivery (at);
CREATE INDEX shop_delivery_conversion ON shop_delivery (conversion) WHERE conversion IS NOT NULL;

-- Other names of an order (keyed, as conversion.dedup_k): the platform's own, and the numbers that people know it by.
CREATE TABLE order_name (
    name       INTEGER NOT NULL,
    conversion INTEGER NOT NULL,
    number     INTEGER NOT NULL,             -- 1: as people write it, so another order may be called so too
    PRIMARY KEY (name, conversion)
) STRICT, WITHOUT ROWID;
CREATE INDEX order_name_conversion ON order_name (conversion);
CREATE TRIGGER order_name_gone AFTER DELETE ON conversion BEGIN
    DELETE FROM order_name WHERE conversion = OLD.id;
END;
