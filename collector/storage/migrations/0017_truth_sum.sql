-- What later proof said of what was stated, by day: kept as the other sums are (0016), of the few events that teach.
-- X'A56C6162656C' is the key `label` as MessagePack writes it: a match without one costs an insert a search of its bytes.
CREATE TABLE truth_sum (
    store    INTEGER NOT NULL,
    day      INTEGER NOT NULL,               -- UTC, of the event's own time
    purchase INTEGER NOT NULL,
    label    TEXT NOT NULL,                  -- kind, method, stated log odds, whether it came true: parted by U+001F
    n        INTEGER NOT NULL,
    PRIMARY KEY (store, day, purchase, label)
) WITHOUT ROWID;

CREATE VIEW truth_row AS
SELECT c.id, c.store, c.ts / 86400000 AS day, c.event_type = 'Purchase' AS purchase,
       match_label(c.match, c.event_type) AS label
  FROM conversion c
 WHERE c.store > 0 AND c.flags & 145 = 0 AND instr(c.match, X'A56C6162656C')
   AND match_label(c.match, c.event_type) IS NOT NULL;

CREATE TRIGGER truth_kept AFTER INSERT ON conversion WHEN instr(NEW.match, X'A56C6162656C') BEGIN
    INSERT INTO truth_sum SELECT store, day, purchase, label, 1 FROM truth_row WHERE id = NEW.id
        ON CONFLICT DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER truth_kept_before BEFORE UPDATE OF store, ts, event_type, flags, match ON conversion
WHEN instr(OLD.match, X'A56C6162656C') BEGIN
    INSERT INTO truth_sum SELECT store, day, purchase, label, -1 FROM truth_row WHERE id = OLD.id
        ON CONFLICT DO UPDATE SET n = n - 1;
    DELETE FROM truth_sum WHERE store = OLD.store AND day = OLD.ts / 86400000 AND n = 0;
END;
CREATE TRIGGER truth_kept_after AFTER UPDATE OF store, ts, event_type, flags, match ON conversion
WHEN instr(NEW.match, X'A56C6162656C') BEGIN
    INSERT INTO truth_sum SELECT store, day, purchase, label, 1 FROM truth_row WHERE id = NEW.id
        ON CONFLICT DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER truth_kept_leaves BEFORE DELETE ON conversion WHEN instr(OLD.match, X'A56C6162656C') BEGIN
    INSERT INTO truth_sum SELECT store, day, purchase, label, -1 FROM truth_row WHERE id = OLD.id
        ON CONFLICT DO UPDATE SET n = n - 1;
    DELETE FROM truth_sum WHERE store = OLD.store AND day = OLD.ts / 86400000 AND n = 0;
END;

INSERT OR IGNORE INTO recount VALUES (1);
