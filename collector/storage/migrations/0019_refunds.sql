-- An order whose state changed while a request with it was under way (storage/journal/refunds.py): what Meta has if it
-- takes that one. value: of the order before the change.
CREATE TABLE sent_before (
    outbox     INTEGER NOT NULL,
    request    INTEGER NOT NULL,
    conversion INTEGER NOT NULL,
    value      TEXT NOT NULL,
    PRIMARY KEY (outbox, request)
) STRICT, WITHOUT ROWID;
CREATE INDEX sent_before_conversion ON sent_before (conversion);
CREATE TRIGGER sent_before_gone AFTER DELETE ON conversion BEGIN
    DELETE FROM sent_before WHERE conversion = OLD.id;
END;
