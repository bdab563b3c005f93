-- What happened, summed up, as in SQLite's schema (its scripts 0016, 0017 and 0021), whose words hold here too. No row is
-- hot: whoever changes rows adds what changes in the sums, once for each of his statements, to tables that have no key
-- (*_new); one courier at a time folds these into the sums. Both together (the views) are always exact.
-- A quarter is ts / 900,000 ms. Rows say themselves what they count as (click.place, conversion.tier, outbox.event …).

-- Names that clicks bring: source, campaign, ad set and ad, parted by U+001F. Some 5,000 of a store; 0 is any other.
CREATE TABLE place (
    id    int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    store int NOT NULL,
    name  text NOT NULL,
    UNIQUE (store, name)
);

CREATE FUNCTION event_name_of(event_type text) RETURNS text LANGUAGE sql IMMUTABLE RETURN
    CASE WHEN event_type IN (
        'AddPaymentInfo', 'AddToCart', 'AddToWishlist', 'CompleteRegistration', 'Contact', 'CustomizeProduct', 'Donate',
        'FindLocation', 'InitiateCheckout', 'Lead', 'PageView', 'Purchase', 'Schedule', 'Search', 'StartTrial',
        'SubmitApplication', 'Subscribe', 'ViewContent'
    ) THEN event_type ELSE '(custom)' END;
-- The week of a click's id, which is given up whole; 0: of before.
CREATE FUNCTION week_of(id bigint) RETURNS int LANGUAGE sql IMMUTABLE RETURN
    greatest(((id >> 22) - 345600000) / 604800000, 0)::int;

CREATE TABLE click_sum (
    store   int NOT NULL,
    quarter int NOT NULL,
    place   int NOT NULL,
    apart   text NOT NULL,                   -- '' for people's clicks
    week    int NOT NULL,
    n       bigint NOT NULL,
    PRIMARY KEY (store, quarter, place, apart, week)
) WITH (fillfactor = 70);
CREATE TABLE click_day (
    store int NOT NULL,
    day   int NOT NULL,                      -- quarter / 96
    place int NOT NULL,
    apart text NOT NULL,
    week  int NOT NULL,
    n     bigint NOT NULL,
    PRIMARY KEY (store, day, place, apart, week)
) WITH (fillfactor = 70);
CREATE TABLE click_quarter (
    store   int NOT NULL,
    quarter int NOT NULL,
    week    int NOT NULL,
    n       bigint NOT NULL,                 -- people's
    PRIMARY KEY (store, quarter, week)
) WITH (fillfactor = 70);
-- Units are numeric: no sum of them passes what it can hold.
CREATE TABLE sale_sum (
    store    int NOT NULL,
    event    text NOT NULL,
    quarter  int NOT NULL,
    currency text NOT NULL,
    place    int NOT NULL,
    tier     int NOT NULL,
    n        bigint NOT NULL,
    units    numeric NOT NULL,
    reversed bigint NOT NULL,
    PRIMARY KEY (store, event, quarter, currency, place, tier)
) WITH (fillfactor = 70);
CREATE TABLE sale_day (
    store    int NOT NULL,
    event    text NOT NULL,
    day      int NOT NULL,
    currency text NOT NULL,
    place    int NOT NULL,
    tier     int NOT NULL,
    n        bigint NOT NULL,
    units    numeric NOT NULL,
    reversed bigint NOT NULL,
    PRIMARY KEY (store, event, day, currency, place, tier)
) WITH (fillfactor = 70);
CREATE TABLE sale_quarter (
    store    int NOT NULL,
    event    text NOT NULL,
    quarter  int NOT NULL,
    currency text NOT NULL,
    tier     int NOT NULL,
    n        bigint NOT NULL,
    units    numeric NOT NULL,
    reversed bigint NOT NULL,
    PRIMARY KEY (store, event, quarter, currency, tier)
) WITH (fillfactor = 70);
CREATE TABLE delivery_sum (
    store   int NOT NULL,
    event   text NOT NULL,
    quarter int NOT NULL,
    sale    boolean NOT NULL,
    pixel   int NOT NULL,                    -- 0: it was never queued
    state   int NOT NULL,
    doubt   boolean NOT NULL,
    n       bigint NOT NULL,
    PRIMARY KEY (store, event, quarter, sale, pixel, state, doubt)
) WITH (fillfactor = 70);
CREATE TABLE truth_sum (
    store    int NOT NULL,
    day      int NOT NULL,
    purchase boolean NOT NULL,
    label    text NOT NULL,
    n        bigint NOT NULL,
    PRIMARY KEY (store, day, purchase, label)
) WITH (fillfactor = 70);
CREATE TABLE wait_sum (
    pixel   int NOT NULL,
    quarter int NOT NULL,
    step    int NOT NULL,
    n       bigint NOT NULL,
    PRIMARY KEY (pixel, quarter, step)
) WITH (fillfactor = 70);

-- Rows lie in the order of their time: by it what is over is found, at next to no cost.
CREATE INDEX click_sum_week ON click_sum USING brin (week);
CREATE INDEX click_day_week ON click_day USING brin (week);
CREATE INDEX click_quarter_week ON click_quarter USING brin (week);
CREATE INDEX sale_sum_time ON sale_sum USING brin (quarter);
CREATE INDEX sale_day_time ON sale_day USING brin (day);
CREATE INDEX sale_quarter_time ON sale_quarter USING brin (quarter);
CREATE INDEX delivery_sum_time ON delivery_sum USING brin (quarter);
CREATE INDEX truth_sum_time ON truth_sum USING brin (day);
CREATE INDEX wait_sum_time ON wait_sum USING brin (quarter);

-- What is not folded yet. Emptied again and again: a scan reads little, as long as what is gone is soon taken away.
CREATE TABLE click_new (store int, week int, quarter int, place int, apart text, n bigint);
CREATE TABLE sale_new (
    store int, event text, quarter int, currency text, place int, tier int, n bigint, units numeric, reversed bigint
);
CREATE TABLE delivery_new (
    store int, event text, quarter int, sale boolean, pixel int, state int, doubt boolean, n bigint
);
CREATE TABLE truth_new (store int, day int, purchase boolean, label text, n bigint);
CREATE TABLE wait_new (pixel int, quarter int, step int, n bigint);
DO $$
DECLARE name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['click', 'sale', 'delivery', 'truth', 'wait'] LOOP
        EXECUTE format('ALTER TABLE %s_new SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000)', name);
    END LOOP;
END $$;

CREATE VIEW click_sums AS
SELECT store, quarter, place, apart, n FROM click_sum UNION ALL SELECT store, quarter, place, apart, n FROM click_new;
CREATE VIEW click_days AS
SELECT store, day, place, apart, n FROM click_day
 UNION ALL SELECT store, quarter / 96, place, apart, n FROM click_new;
CREATE VIEW click_quarters AS
SELECT store, quarter, n FROM click_quarter UNION ALL SELECT store, quarter, n FROM click_new WHERE apart = '';
CREATE VIEW sale_sums AS
SELECT store, event, quarter, currency, place, tier, n, units, reversed FROM sale_sum
 UNION ALL SELECT store, event, quarter, currency, place, tier, n, units, reversed FROM sale_new;
CREATE VIEW sale_days AS
SELECT store, event, day, currency, place, tier, n, units, reversed FROM sale_day
 UNION ALL SELECT store, event, quarter / 96, currency, place, tier, n, units, reversed FROM sale_new;
CREATE VIEW sale_quarters AS
SELECT store, event, quarter, currency, tier, n, units, reversed FROM sale_quarter
 UNION ALL SELECT store, event, quarter, currency, tier, n, units, reversed FROM sale_new;
CREATE VIEW delivery_sums AS SELECT * FROM delivery_sum UNION ALL SELECT * FROM delivery_new;
CREATE VIEW truth_sums AS SELECT * FROM truth_sum UNION ALL SELECT * FROM truth_new;
CREATE VIEW wait_sums AS SELECT * FROM wait_sum UNION ALL SELECT * FROM wait_new;

-- A statement's rows before it (went) and after it (came): what they count as, taken out and put in. Clicks are put in by
-- whoever inserts them, many at once; all else, by whomever, here.
DO $make$
DECLARE
    op text; tables text; rows text;
BEGIN
    FOR op, tables, rows IN VALUES
        ('INSERT', 'NEW TABLE AS came', 'SELECT 1 AS sign, %1$s FROM came'),
        ('DELETE', 'OLD TABLE AS went', 'SELECT -1 AS sign, %1$s FROM went'),
        ('UPDATE', 'OLD TABLE AS went NEW TABLE AS came',
         'SELECT 1 AS sign, %1$s FROM came UNION ALL SELECT -1, %1$s FROM went')
    LOOP
        EXECUTE format($f$
            CREATE FUNCTION conversion_%s() RETURNS trigger LANGUAGE plpgsql AS $b$
            BEGIN
                INSERT INTO sale_new
                SELECT store, event_name_of(event_type), ts / 900000, currency, place, tier,
                       sum(sign), sum(sign * units), sum(sign * reversed)
                  FROM (%s) r WHERE store > 0 AND flags & 145 = 0 GROUP BY 1, 2, 3, 4, 5, 6
                HAVING sum(sign) <> 0 OR sum(sign * units) <> 0 OR sum(sign * reversed) <> 0;
                INSERT INTO delivery_new
                SELECT store, event_name_of(event_type), ts / 900000, flags & 145 = 0, 0, capi, false, sum(sign)
                  FROM (%s) r WHERE store > 0 AND NOT queued GROUP BY 1, 2, 3, 4, 6 HAVING sum(sign) <> 0;
                INSERT INTO truth_new
                SELECT store, ts / 86400000, event_type = 'Purchase', label, sum(sign)
                  FROM (%s) r WHERE store > 0 AND flags & 145 = 0 AND label IS NOT NULL
                 GROUP BY 1, 2, 3, 4 HAVING sum(sign) <> 0;
                RETURN NULL;
            END $b$;
            CREATE TRIGGER counted_%s AFTER %s ON conversion REFERENCING %s
                FOR EACH STATEMENT EXECUTE FUNCTION conversion_%s()$f$,
            lower(op),
            format(rows, 'store, event_type, ts, flags, currency, place, tier, units, reversed'),
            format(rows, 'store, event_type, ts, flags, capi, queued'),
            format(rows, 'store, event_type, ts, flags, label'),
            lower(op), op, tables, lower(op));
        EXECUTE format($f$
            CREATE FUNCTION outbox_%s() RETURNS trigger LANGUAGE plpgsql AS $b$
            BEGIN
                INSERT INTO delivery_new
                SELECT store, event, quarter, sale, pixel, state, doubts > 0, sum(sign)
                  FROM (%s) r WHERE store > 0 GROUP BY 1, 2, 3, 4, 5, 6, 7 HAVING sum(sign) <> 0;
                INSERT INTO wait_new
                SELECT pixel, created / 900000,
                       round(8 * ln(greatest(settled - created, 1)::float8) / ln(2::float8))::int, sum(sign)
                  FROM (%s) r WHERE state = 10 AND settled >= created GROUP BY 1, 2, 3 HAVING sum(sign) <> 0;
                RETURN NULL;
            END $b$;
            CREATE TRIGGER counted_%s AFTER %s ON outbox REFERENCING %s
                FOR EACH STATEMENT EXECUTE FUNCTION outbox_%s()$f$,
            lower(op),
            format(rows, 'store, event, quarter, sale, pixel, state, doubts'),
            format(rows, 'pixel, state, created, settled'),
            lower(op), op, tables, lower(op));
        IF op <> 'INSERT' THEN
            EXECUTE format($f$
                CREATE FUNCTION click_%s() RETURNS trigger LANGUAGE plpgsql AS $b$
                BEGIN
                    INSERT INTO click_new
                    SELECT store, week_of(id), ts / 900000, CASE WHEN flags & 287 = 0 THEN place ELSE 0 END,
                           coalesce(apart, ''), sum(sign)
                      FROM (%s) r WHERE store > 0 GROUP BY 1, 2, 3, 4, 5 HAVING sum(sign) <> 0;
                    %s
                    RETURN NULL;
                END $b$;
                CREATE TRIGGER counted_%s AFTER %s ON click REFERENCING %s
                    FOR EACH STATEMENT EXECUTE FUNCTION click_%s()$f$,
                lower(op),
                format(rows, 'store, id, ts, flags, place, apart'),
                CASE op WHEN 'DELETE' THEN
                    'UPDATE conversion c SET place = 0 FROM went
                      WHERE c.store = went.store AND c.click = went.id AND c.place <> 0;'
                ELSE
                    'UPDATE conversion c SET place = came.place FROM came JOIN went USING (id, store)
                      WHERE came.place <> went.place AND c.store = came.store AND c.click = came.id
                        AND c.place <> came.place;'
                END,
                lower(op), op, tables, lower(op));
        END IF;
    END LOOP;
END $make$;
