-- An order's rows are inserted and changed several times in the transaction that stores it. The keeper counts its new events
-- once, as they stand at the transaction's end (NewEvents in storage/ground/kept.py): until then none of them is in these
-- views (as 0016 but for new_after; + keeps the plans as they were), and the triggers that meet each of them pass it by.
DROP VIEW sale_row;
DROP VIEW delivery_row;
CREATE VIEW sale_row AS
SELECT c.id, c.click, c.store, event_name_of(c.event_type) AS event, c.ts / 900000 AS quarter,
       event_currency(c.body) AS currency, match_tier(c.match) AS tier,
       CASE WHEN c.click IS NULL THEN 0 ELSE coalesce((
            SELECT p.id FROM click k JOIN place p ON p.store = c.store AND p.name = click_place(k.body)
             WHERE k.id = c.click), 0) END AS place,
       event_units(c.body) AS units, event_ended(c.body) AS reversed
  FROM conversion c WHERE c.store > 0 AND c.flags & 145 = 0 AND +c.id <= new_after();
CREATE VIEW delivery_row AS
SELECT c.id AS conversion, o.id, c.store, event_name_of(c.event_type) AS event, c.ts / 900000 AS quarter,
       c.flags & 145 = 0 AS sale, coalesce(o.pixel, 0) AS pixel, coalesce(o.state, c.capi) AS state,
       coalesce(o.doubts > 0, 0) AS doubt,
       coalesce((SELECT id FROM cause WHERE name = cause_name(o.reason)), 0) AS cause
  FROM conversion c LEFT JOIN outbox o ON o.conversion = c.id WHERE c.store > 0 AND +c.id <= new_after();

DROP TRIGGER conversion_kept;
CREATE TRIGGER conversion_kept AFTER INSERT ON conversion WHEN NEW.id <= new_after() BEGIN
    INSERT INTO sale_sum SELECT store, event, quarter, currency, place, tier, 1, units, reversed
                           FROM sale_row WHERE id = NEW.id
        ON CONFLICT DO UPDATE SET n = n + 1, units = units + excluded.units, reversed = reversed + excluded.reversed;
    INSERT INTO delivery_sum SELECT store, event, quarter, sale, pixel, state, doubt, cause, 1
                               FROM delivery_row WHERE conversion = NEW.id
        ON CONFLICT DO UPDATE SET n = n + 1;
END;
-- As 0024, which asked eight times for what one function sees at once.
DROP TRIGGER conversion_kept_before;
DROP TRIGGER conversion_kept_after;
CREATE TRIGGER conversion_kept_before BEFORE UPDATE OF store, ts, event_type, flags, click, capi, body, match ON conversion
WHEN OLD.id <= new_after()
 AND (OLD.capi IS NOT NEW.capi OR OLD.click IS NOT NEW.click OR OLD.flags IS NOT NEW.flags OR OLD.store IS NOT NEW.store
  OR OLD.ts / 900000 IS NOT NEW.ts / 900000 OR OLD.event_type IS NOT NEW.event_type
  OR counts_otherwise(OLD.body, NEW.body, OLD.match, NEW.match)) BEGIN
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
CREATE TRIGGER conversion_kept_after AFTER UPDATE OF store, ts, event_type, flags, click, capi, body, match ON conversion
WHEN OLD.id <= new_after()
 AND (OLD.capi IS NOT NEW.capi OR OLD.click IS NOT NEW.click OR OLD.flags IS NOT NEW.flags OR OLD.store IS NOT NEW.store
  OR OLD.ts / 900000 IS NOT NEW.ts / 900000 OR OLD.event_type IS NOT NEW.event_type
  OR counts_otherwise(OLD.body, NEW.body, OLD.match, NEW.match)) BEGIN
    INSERT INTO sale_sum SELECT store, event, quarter, currency, place, tier, 1, units, reversed
                           FROM sale_row WHERE id = NEW.id
        ON CONFLICT DO UPDATE SET n = n + 1, units = units + excluded.units, reversed = reversed + excluded.reversed;
    INSERT INTO delivery_sum SELECT store, event, quarter, sale, pixel, state, doubt, cause, 1
                               FROM delivery_row WHERE conversion = NEW.id
        ON CONFLICT DO UPDATE SET n = n + 1;
END;

DROP TRIGGER outbox_kept_comes;
DROP TRIGGER outbox_kept;
CREATE TRIGGER outbox_kept_comes BEFORE INSERT ON outbox WHEN NEW.conversion <= new_after() BEGIN
    INSERT INTO delivery_sum SELECT store, event, quarter, sale, pixel, state, doubt, cause, -1
                               FROM delivery_row WHERE conversion = NEW.conversion
        ON CONFLICT DO UPDATE SET n = n - 1;
    INSERT OR IGNORE INTO cause (name) SELECT cause_name(NEW.reason)
     WHERE NEW.reason IS NOT NULL AND NOT EXISTS (SELECT 1 FROM cause WHERE id = 2000);
END;
CREATE TRIGGER outbox_kept AFTER INSERT ON outbox WHEN NEW.conversion <= new_after() BEGIN
    INSERT INTO delivery_sum SELECT store, event, quarter, sale, pixel, state, doubt, cause, 1
                               FROM delivery_row WHERE conversion = NEW.conversion
        ON CONFLICT DO UPDATE SET n = n + 1;
END;
