-- What happened, summed up: kept by triggers in the transaction of each change, whoever makes it, and never recounted. A
-- quarter is ts / 900,000 ms: the days of every time zone begin at one. The views say what a row counts as; a sum is its
-- view grouped. event_*, click_* and match_* are functions of storage/ground/kept.py, which each of our connections has.

-- Names that clicks bring: source, campaign, ad set and ad, parted by U+001F. The first 5,000 of a store; 0 is any other.
CREATE TABLE place (
    id     INTEGER PRIMARY KEY,
    store  INTEGER NOT NULL,
    number INTEGER NOT NULL CHECK (number <= 5000),
    name   TEXT NOT NULL,
    UNIQUE (store, number),
    UNIQUE (store, name)
) STRICT;
-- Why deliveries stand as they do, in the words kept with them. The first 2,000; 0 is any other, and none.
CREATE TABLE cause (
    id   INTEGER PRIMARY KEY CHECK (id <= 2000),
    name TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE click_sum (
    store   INTEGER NOT NULL,
    quarter INTEGER NOT NULL,
    place   INTEGER NOT NULL,
    apart   TEXT NOT NULL,                   -- '' for people's clicks, else why they are kept apart
    n       INTEGER NOT NULL,
    PRIMARY KEY (store, quarter, place, apart)
) WITHOUT ROWID;
-- No STRICT: a sum past 64 bits becomes a float instead of refusing the order.
CREATE TABLE sale_sum (
    store    INTEGER NOT NULL,
    event    TEXT NOT NULL,                  -- a standard name, or (custom)
    quarter  INTEGER NOT NULL,
    currency TEXT NOT NULL,
    place    INTEGER NOT NULL,               -- of the credited click
    tier     INTEGER NOT NULL,               -- 0 not attributed, 1 likely, 2 proven
    n        INTEGER NOT NULL,
    units    INTEGER NOT NULL,               -- ten-thousandths of the currency's unit
    reversed INTEGER NOT NULL,               -- refunded, cancelled, failed: in n, their value not in units
    PRIMARY KEY (store, event, quarter, currency, place, tier)
) WITHOUT ROWID;
-- Orders and events by where they stand with Meta: one row of an event is one pixel's; pixel 0 was never queued.
CREATE TABLE delivery_sum (
    store   INTEGER NOT NULL,
    event   TEXT NOT NULL,
    quarter INTEGER NOT NULL,                -- of the event's own time
    sale    INTEGER NOT NULL,                -- 0: a test, a crawler's, or told by a page alone
    pixel   INTEGER NOT NULL,
    state   INTEGER NOT NULL,
    doubt   INTEGER NOT NULL,                -- 1: an attempt's answer never came
    cause   INTEGER NOT NULL,
    n       INTEGER NOT NULL,
    PRIMARY KEY (store, event, quarter, sale, pixel, state, doubt, cause)
) WITHOUT ROWID;
-- What the edge refused, by the moment at which its count reached the keeper; those inside batches as well.
CREATE TABLE refusal_sum (
    quarter INTEGER NOT NULL,
    code    TEXT NOT NULL,
    n       INTEGER NOT NULL,
    PRIMARY KEY (quarter, code)
) WITHOUT ROWID;

CREATE VIEW click_row AS
SELECT c.id, c.store, c.ts / 900000 AS quarter, click_apart(c.flags, c.body) AS apart,
       CASE WHEN c.flags & 287 THEN 0
            ELSE coalesce((SELECT id FROM place p WHERE p.store = c.store AND p.name = click_place(c.body)), 0) END AS place
  FROM click c WHERE c.store > 0;
CREATE VIEW sale_row AS
SELECT c.id, c.click, c.store, event_name_of(c.event_type) AS event, c.ts / 900000 AS quarter,
       event_currency(c.body) AS currency, match_tier(c.match) AS tier,
       CASE WHEN c.click IS NULL THEN 0 ELSE coalesce((
            SELECT p.id FROM click k JOIN place p ON p.store = c.store AND p.name = click_place(k.body)
             WHERE k.id = c.click), 0) END AS place,
       event_units(c.body) AS units, event_ended(c.body) AS reversed
  FROM conversion c WHERE c.store > 0 AND c.flags & 145 = 0;
CREATE VIEW delivery_row AS
SELECT c.id AS conversion, o.id, c.store, event_name_of(c.event_type) AS event, c.ts / 900000 AS quarter,
       c.flags & 145 = 0 AS sale, coalesce(o.pixel, 0) AS pixel, coalesce(o.state, c.capi) AS state,
       coalesce(o.doubts > 0, 0) AS doubt,
       coalesce((SELECT id FROM cause WHERE name = cause_name(o.reason)), 0) AS cause
  FROM conversion c LEFT JOIN outbox o ON o.conversion = c.id WHERE c.store > 0;

-- Who inserts many clicks at once sums them himself, which costs a twentieth (count_clicks in kept.py).
CREATE TRIGGER click_kept AFTER INSERT ON click WHEN click_by_click() BEGIN
    INSERT OR IGNORE INTO place (store, number, name)
    SELECT NEW.store, coalesce((SELECT max(number) FROM place WHERE store = NEW.store), 0) + 1, click_place(NEW.body)
     WHERE NEW.store > 0 AND NEW.flags & 287 = 0
       AND NOT EXISTS (SELECT 1 FROM place WHERE store = NEW.store AND name = click_place(NEW.body));
    INSERT INTO click_sum SELECT store, quarter, place, apart, 1 FROM click_row WHERE id = NEW.id
        ON CONFLICT DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER click_kept_before BEFORE UPDATE OF store, ts, flags, body ON click BEGIN
    INSERT INTO click_sum SELECT store, quarter, place, apart, -1 FROM click_row WHERE id = OLD.id
        ON CONFLICT DO UPDATE SET n = n - 1;
    DELETE FROM click_sum WHERE store = OLD.store AND quarter = OLD.ts / 900000 AND n = 0;
    INSERT INTO sale_sum SELECT store, event, quarter, currency, place, tier, -1, -units, -reversed
                           FROM sale_row WHERE click = OLD.id
        ON CONFLICT DO UPDATE SET n = n - 1, units = units + excluded.units, reversed = reversed + excluded.reversed;
END;
CREATE TRIGGER click_kept_after AFTER UPDATE OF store, ts, flags, body ON click BEGIN
    INSERT OR IGNORE INTO place (store, number, name)
    SELECT NEW.store, coalesce((SELECT max(number) FROM place WHERE store = NEW.store), 0) + 1, click_place(NEW.body)
     WHERE NEW.store > 0 AND NEW.flags & 287 = 0
       AND NOT EXISTS (SELECT 1 FROM place WHERE store = NEW.store AND name = click_place(NEW.body));
    INSERT INTO click_sum SELECT store, quarter, place, apart, 1 FROM click_row WHERE id = NEW.id
        ON CONFLICT DO UPDATE SET n = n + 1;
    INSERT INTO sale_sum SELECT store, event, quarter, currency, place, tier, 1, units, reversed
                           FROM sale_row WHERE click = NEW.id
        ON CONFLICT DO UPDATE SET n = n + 1, units = units + excluded.units, reversed = reversed + excluded.reversed;
END;
CREATE TRIGGER click_kept_leaves BEFORE DELETE ON click BEGIN
    INSERT INTO click_sum SELECT store, quarter, place, apart, -1 FROM click_row WHERE id = OLD.id
        ON CONFLICT DO UPDATE SET n = n - 1;
    DELETE FROM click_sum WHERE store = OLD.store AND quarter = OLD.ts / 900000 AND n = 0;
    INSERT INTO sale_sum SELECT store, event, quarter, currency, place, tier, -1, -units, -reversed
                           FROM sale_row WHERE click = OLD.id
        ON CONFLICT DO UPDATE SET n = n - 1, units = units + excluded.units, reversed = reversed + excluded.reversed;
END;
CREATE TRIGGER click_kept_left AFTER DELETE ON click BEGIN
    INSERT INTO sale_sum SELECT store, event, quarter, currency, place, tier, 1, units, reversed
                           FROM sale_row WHERE click = OLD.id
        ON CONFLICT DO UPDATE SET n = n + 1, units = units + excluded.units, reversed = reversed + excluded.reversed;
END;

CREATE TRIGGER conversion_kept AFTER INSERT ON conversion BEGIN
    INSERT INTO sale_sum SELECT store, event, quarter, currency, place, tier, 1, units, reversed
                           FROM sale_row WHERE id = NEW.id
        ON CONFLICT DO UPDATE SET n = n + 1, units = units + excluded.units, reversed = reversed + excluded.reversed;
    INSERT INTO delivery_sum SELECT store, event, quarter, sale, pixel, state, doubt, cause, 1
                               FROM delivery_row WHERE conversion = NEW.id
        ON CONFLICT DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER conversion_kept_before BEFORE UPDATE OF store, ts, event_type, flags, click, capi, body, match ON conversion BEGIN
    INSERT INTO sale_sum SELECT store, event, quarter, currency, place, tier, -1, -units, -reversed
                           FROM sale_row WHERE id = OLD.id
        ON CONFLICT DO UPDATE SET n = n - 1, units = units + excluded.units, reversed = reversed + excluded.reversed;
    DELETE FROM sale_sum WHERE store = OLD.store AND event = event_name_of(OLD.event_type)
       AND quarter = OLD.ts / 900000 AND n = 0;
    INSERT INTO delivery_sum SELECT store, event, quarter, sale, pixel, state, doubt, cause, -1
                               FROM delivery_row WHERE conversion = OLD.id
        ON CONFLICT DO UPDATE SET n = n - 1;
    DELETE FROM delivery_sum WHERE store = OLD.store AND event = event_name_of(OLD.event_type)
       AND quarter = OLD.ts / 900000 AND n = 0;
END;
CREATE TRIGGER conversion_kept_after AFTER UPDATE OF store, ts, event_type, flags, click, capi, body, match ON conversion BEGIN
    INSERT INTO sale_sum SELECT store, event, quarter, currency, place, tier, 1, units, reversed
                           FROM sale_row WHERE id = NEW.id
        ON CONFLICT DO UPDATE SET n = n + 1, units = units + excluded.units, reversed = reversed + excluded.reversed;
    INSERT INTO delivery_sum SELECT store, event, quarter, sale, pixel, state, doubt, cause, 1
                               FROM delivery_row WHERE conversion = NEW.id
        ON CONFLICT DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER conversion_kept_leaves BEFORE DELETE ON conversion BEGIN
    INSERT INTO sale_sum SELECT store, event, quarter, currency, place, tier, -1, -units, -reversed
                           FROM sale_row WHERE id = OLD.id
        ON CONFLICT DO UPDATE SET n = n - 1, units = units + excluded.units, reversed = reversed + excluded.reversed;
    DELETE FROM sale_sum WHERE store = OLD.store AND event = event_name_of(OLD.event_type)
       AND quarter = OLD.ts / 900000 AND n = 0;
    INSERT INTO delivery_sum SELECT store, event, quarter, sale, pixel, state, doubt, cause, -1
                               FROM delivery_row WHERE conversion = OLD.id
        ON CONFLICT DO UPDATE SET n = n - 1;
    DELETE FROM delivery_sum WHERE store = OLD.store AND event = event_name_of(OLD.event_type)
       AND quarter = OLD.ts / 900000 AND n = 0;
END;

-- An event's first outbox row takes the place of "never queued", and its last gives that back: so all of its rows are
-- taken out before a change, and put back as they stand after it.
CREATE TRIGGER outbox_kept_comes BEFORE INSERT ON outbox BEGIN
    INSERT INTO delivery_sum SELECT store, event, quarter, sale, pixel, state, doubt, cause, -1
                               FROM delivery_row WHERE conversion = NEW.conversion
        ON CONFLICT DO UPDATE SET n = n - 1;
    INSERT OR IGNORE INTO cause (name) SELECT cause_name(NEW.reason)
     WHERE NEW.reason IS NOT NULL AND NOT EXISTS (SELECT 1 FROM cause WHERE id = 2000);
END;
CREATE TRIGGER outbox_kept AFTER INSERT ON outbox BEGIN
    INSERT INTO delivery_sum SELECT store, event, quarter, sale, pixel, state, doubt, cause, 1
                               FROM delivery_row WHERE conversion = NEW.conversion
        ON CONFLICT DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER outbox_kept_before BEFORE UPDATE OF conversion, state, doubts, reason ON outbox BEGIN
    INSERT INTO delivery_sum SELECT store, event, quarter, sale, pixel, state, doubt, cause, -1
                               FROM delivery_row WHERE conversion IN (OLD.conversion, NEW.conversion)
        ON CONFLICT DO UPDATE SET n = n - 1;
    INSERT OR IGNORE INTO cause (name) SELECT cause_name(NEW.reason)
     WHERE NEW.reason IS NOT NULL AND NOT EXISTS (SELECT 1 FROM cause WHERE id = 2000);
END;
CREATE TRIGGER outbox_kept_after AFTER UPDATE OF conversion, state, doubts, reason ON outbox BEGIN
    INSERT INTO delivery_sum SELECT store, event, quarter, sale, pixel, state, doubt, cause, 1
                               FROM delivery_row WHERE conversion IN (OLD.conversion, NEW.conversion)
        ON CONFLICT DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER outbox_kept_leaves BEFORE DELETE ON outbox BEGIN
    INSERT INTO delivery_sum SELECT store, event, quarter, sale, pixel, state, doubt, cause, -1
                               FROM delivery_row WHERE conversion = OLD.conversion
        ON CONFLICT DO UPDATE SET n = n - 1;
END;
CREATE TRIGGER outbox_kept_left AFTER DELETE ON outbox BEGIN
    INSERT INTO delivery_sum SELECT store, event, quarter, sale, pixel, state, doubt, cause, 1
                               FROM delivery_row WHERE conversion = OLD.conversion
        ON CONFLICT DO UPDATE SET n = n + 1;
END;

-- Purchases by their time, for lists: they are few beside page views, so this index costs the flood nothing.
CREATE INDEX conversion_purchase ON conversion (ts) WHERE event_type = 'Purchase';

-- Whoever opens a database with a row here counts the sums anew, and takes it out (storage/ground/kept.py).
CREATE TABLE recount (due INTEGER PRIMARY KEY) STRICT;
INSERT INTO recount VALUES (1);
