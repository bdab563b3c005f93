-- Sums of the sums (0016), so that three months are as soon told as a week: by UTC day, and by quarter without the place.
-- Kept by triggers of the sums themselves. A span of days is its whole UTC days, and quarters at its two ends.
CREATE TABLE click_day (
    store INTEGER NOT NULL,
    day   INTEGER NOT NULL,                  -- quarter / 96
    place INTEGER NOT NULL,
    apart TEXT NOT NULL,
    n     INTEGER NOT NULL,
    PRIMARY KEY (store, day, place, apart)
) WITHOUT ROWID;
CREATE TABLE click_quarter (
    store   INTEGER NOT NULL,
    quarter INTEGER NOT NULL,
    n       INTEGER NOT NULL,                -- people's
    PRIMARY KEY (store, quarter)
) WITHOUT ROWID;
CREATE TABLE sale_day (
    store    INTEGER NOT NULL,
    event    TEXT NOT NULL,
    day      INTEGER NOT NULL,
    currency TEXT NOT NULL,
    place    INTEGER NOT NULL,
    tier     INTEGER NOT NULL,
    n        INTEGER NOT NULL,
    units    INTEGER NOT NULL,
    reversed INTEGER NOT NULL,
    PRIMARY KEY (store, event, day, currency, place, tier)
) WITHOUT ROWID;
CREATE TABLE sale_quarter (
    store    INTEGER NOT NULL,
    event    TEXT NOT NULL,
    quarter  INTEGER NOT NULL,
    currency TEXT NOT NULL,
    tier     INTEGER NOT NULL,
    n        INTEGER NOT NULL,
    units    INTEGER NOT NULL,
    reversed INTEGER NOT NULL,
    PRIMARY KEY (store, event, quarter, currency, tier)
) WITHOUT ROWID;
-- How long events waited from their receipt to Meta's 200, by the quarter of the receipt. step: eighths of a doubling of a
-- millisecond (wait_step in storage/ground/kept.py).
CREATE TABLE wait_sum (
    pixel   INTEGER NOT NULL,
    quarter INTEGER NOT NULL,
    step    INTEGER NOT NULL,
    n       INTEGER NOT NULL,
    PRIMARY KEY (pixel, quarter, step)
) WITHOUT ROWID;

CREATE TRIGGER click_sum_more AFTER INSERT ON click_sum BEGIN
    INSERT INTO click_day VALUES (NEW.store, NEW.quarter / 96, NEW.place, NEW.apart, NEW.n)
        ON CONFLICT DO UPDATE SET n = n + excluded.n;
    INSERT INTO click_quarter SELECT NEW.store, NEW.quarter, NEW.n WHERE NEW.apart = ''
        ON CONFLICT DO UPDATE SET n = n + excluded.n;
END;
CREATE TRIGGER click_sum_other AFTER UPDATE ON click_sum BEGIN
    INSERT INTO click_day VALUES (NEW.store, NEW.quarter / 96, NEW.place, NEW.apart, NEW.n - OLD.n)
        ON CONFLICT DO UPDATE SET n = n + excluded.n;
    INSERT INTO click_quarter SELECT NEW.store, NEW.quarter, NEW.n - OLD.n WHERE NEW.apart = ''
        ON CONFLICT DO UPDATE SET n = n + excluded.n;
END;
CREATE TRIGGER click_sum_less AFTER DELETE ON click_sum BEGIN
    INSERT INTO click_day VALUES (OLD.store, OLD.quarter / 96, OLD.place, OLD.apart, -OLD.n)
        ON CONFLICT DO UPDATE SET n = n + excluded.n;
    INSERT INTO click_quarter SELECT OLD.store, OLD.quarter, -OLD.n WHERE OLD.apart = ''
        ON CONFLICT DO UPDATE SET n = n + excluded.n;
    DELETE FROM click_day
     WHERE store = OLD.store AND day = OLD.quarter / 96 AND place = OLD.place AND apart = OLD.apart AND n = 0;
    DELETE FROM click_quarter WHERE store = OLD.store AND quarter = OLD.quarter AND n = 0;
END;

CREATE TRIGGER sale_sum_more AFTER INSERT ON sale_sum BEGIN
    INSERT INTO sale_day VALUES (NEW.store, NEW.event, NEW.quarter / 96, NEW.currency, NEW.place, NEW.tier,
                                 NEW.n, NEW.units, NEW.reversed)
        ON CONFLICT DO UPDATE SET n = n + excluded.n, units = units + excluded.units, reversed = reversed + excluded.reversed;
    INSERT INTO sale_quarter VALUES (NEW.store, NEW.event, NEW.quarter, NEW.currency, NEW.tier,
                                     NEW.n, NEW.units, NEW.reversed)
        ON CONFLICT DO UPDATE SET n = n + excluded.n, units = units + excluded.units, reversed = reversed + excluded.reversed;
END;
CREATE TRIGGER sale_sum_other AFTER UPDATE ON sale_sum BEGIN
    INSERT INTO sale_day VALUES (NEW.store, NEW.event, NEW.quarter / 96, NEW.currency, NEW.place, NEW.tier,
                                 NEW.n - OLD.n, NEW.units - OLD.units, NEW.reversed - OLD.reversed)
        ON CONFLICT DO UPDATE SET n = n + excluded.n, units = units + excluded.units, reversed = reversed + excluded.reversed;
    INSERT INTO sale_quarter VALUES (NEW.store, NEW.event, NEW.quarter, NEW.currency, NEW.tier,
                                     NEW.n - OLD.n, NEW.units - OLD.units, NEW.reversed - OLD.reversed)
        ON CONFLICT DO UPDATE SET n = n + excluded.n, units = units + excluded.units, reversed = reversed + excluded.reversed;
END;
CREATE TRIGGER sale_sum_less AFTER DELETE ON sale_sum BEGIN
    INSERT INTO sale_day VALUES (OLD.store, OLD.event, OLD.quarter / 96, OLD.currency, OLD.place, OLD.tier,
                                 -OLD.n, -OLD.units, -OLD.reversed)
        ON CONFLICT DO UPDATE SET n = n + excluded.n, units = units + excluded.units, reversed = reversed + excluded.reversed;
    INSERT INTO sale_quarter VALUES (OLD.store, OLD.event, OLD.quarter, OLD.currency, OLD.tier,
                                     -OLD.n, -OLD.units, -OLD.reversed)
        ON CONFLICT DO UPDATE SET n = n + excluded.n, units = units + excluded.units, reversed = reversed + excluded.reversed;
    DELETE FROM sale_day WHERE store = OLD.store AND event = OLD.event AND day = OLD.quarter / 96 AND n = 0 AND units = 0;
    DELETE FROM sale_quarter
     WHERE store = OLD.store AND event = OLD.event AND quarter = OLD.quarter AND n = 0 AND units = 0;
END;

CREATE VIEW wait_row AS
SELECT id, pixel, created / 900000 AS quarter, wait_step(settled - created) AS step
  FROM outbox WHERE state = 10 AND settled >= created;
CREATE TRIGGER wait_kept AFTER INSERT ON outbox WHEN NEW.state = 10 BEGIN
    INSERT INTO wait_sum SELECT pixel, quarter, step, 1 FROM wait_row WHERE id = NEW.id
        ON CONFLICT DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER wait_kept_before BEFORE UPDATE OF state, settled, created, pixel ON outbox WHEN OLD.state = 10 BEGIN
    INSERT INTO wait_sum SELECT pixel, quarter, step, -1 FROM wait_row WHERE id = OLD.id
        ON CONFLICT DO UPDATE SET n = n - 1;
    DELETE FROM wait_sum WHERE pixel = OLD.pixel AND quarter = OLD.created / 900000 AND n = 0;
END;
CREATE TRIGGER wait_kept_after AFTER UPDATE OF state, settled, created, pixel ON outbox WHEN NEW.state = 10 BEGIN
    INSERT INTO wait_sum SELECT pixel, quarter, step, 1 FROM wait_row WHERE id = NEW.id
        ON CONFLICT DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER wait_kept_leaves BEFORE DELETE ON outbox WHEN OLD.state = 10 BEGIN
    INSERT INTO wait_sum SELECT pixel, quarter, step, -1 FROM wait_row WHERE id = OLD.id
        ON CONFLICT DO UPDATE SET n = n - 1;
    DELETE FROM wait_sum WHERE pixel = OLD.pixel AND quarter = OLD.created / 900000 AND n = 0;
END;

INSERT OR IGNORE INTO recount VALUES (1);
