-- Most changes of an order (paid, tagged, told again) change nothing that is counted of it: then the sums of 0016, and
-- their sums of 0021, are left alone (half of such an update's time). As 0016 but for WHEN.
DROP TRIGGER conversion_kept_before;
DROP TRIGGER conversion_kept_after;
CREATE TRIGGER conversion_kept_before BEFORE UPDATE OF store, ts, event_type, flags, click, capi, body, match ON conversion
WHEN OLD.capi IS NOT NEW.capi OR OLD.click IS NOT NEW.click OR OLD.flags IS NOT NEW.flags OR OLD.store IS NOT NEW.store
  OR OLD.ts / 900000 IS NOT NEW.ts / 900000 OR OLD.event_type IS NOT NEW.event_type
  OR match_tier(OLD.match) <> match_tier(NEW.match) OR event_units(OLD.body) <> event_units(NEW.body)
  OR event_ended(OLD.body) <> event_ended(NEW.body) OR event_currency(OLD.body) <> event_currency(NEW.body) BEGIN
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
WHEN OLD.capi IS NOT NEW.capi OR OLD.click IS NOT NEW.click OR OLD.flags IS NOT NEW.flags OR OLD.store IS NOT NEW.store
  OR OLD.ts / 900000 IS NOT NEW.ts / 900000 OR OLD.event_type IS NOT NEW.event_type
  OR match_tier(OLD.match) <> match_tier(NEW.match) OR event_units(OLD.body) <> event_units(NEW.body)
  OR event_ended(OLD.body) <> event_ended(NEW.body) OR event_currency(OLD.body) <> event_currency(NEW.body) BEGIN
    INSERT INTO sale_sum SELECT store, event, quarter, currency, place, tier, 1, units, reversed
                           FROM sale_row WHERE id = NEW.id
        ON CONFLICT DO UPDATE SET n = n + 1, units = units + excluded.units, reversed = reversed + excluded.reversed;
    INSERT INTO delivery_sum SELECT store, event, quarter, sale, pixel, state, doubt, cause, 1
                               FROM delivery_row WHERE conversion = NEW.id
        ON CONFLICT DO UPDATE SET n = n + 1;
END;
