-- Orders of a shop that a person should look at, the last hundred of each kind and store (storage/journal/shop_orders.py).
-- kind: name_conflict, a number that another order has too; value_differs, a server told another value.
CREATE TABLE shop_note (
    store      INTEGER NOT NULL,
    kind       TEXT NOT NULL,
    called     TEXT NOT NULL,                -- the order's number, for people
    conversion INTEGER NOT NULL,             -- what it was held against
    at         INTEGER NOT NULL,             -- ms
    PRIMARY KEY (store, kind, called)
) STRICT, WITHOUT ROWID;
CREATE INDEX shop_note_conversion ON shop_note (conversion);
CREATE TRIGGER shop_note_gone AFTER DELETE ON conversion BEGIN
    DELETE FROM shop_note WHERE conversion = OLD.id;
END;
