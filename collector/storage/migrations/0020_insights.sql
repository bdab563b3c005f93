-- What Meta's ad account says of its ads ([insights]), as it was last read. Days are the account's own, since 1970; money is
-- in ten-thousandths of the account's currency. Each reading replaces the days that it was asked for: `reading` numbers them.
CREATE TABLE insight (
    account        TEXT NOT NULL,
    day            INTEGER NOT NULL,
    ad             TEXT NOT NULL,
    currency       TEXT NOT NULL,
    reading        INTEGER NOT NULL,
    spend          INTEGER NOT NULL,
    impressions    INTEGER NOT NULL,
    clicks         INTEGER NOT NULL,
    link_clicks    INTEGER NOT NULL,
    purchases      INTEGER NOT NULL,         -- Meta's own: a day after a view, seven after a click
    purchase_units INTEGER NOT NULL,
    PRIMARY KEY (account, day, ad, currency)
) STRICT, WITHOUT ROWID;
CREATE TABLE insight_ad (
    account       TEXT NOT NULL,
    ad            TEXT NOT NULL,
    ad_name       TEXT NOT NULL,
    adset         TEXT NOT NULL,
    adset_name    TEXT NOT NULL,
    campaign      TEXT NOT NULL,
    campaign_name TEXT NOT NULL,
    PRIMARY KEY (account, ad)
) STRICT, WITHOUT ROWID;
CREATE TABLE insight_account (
    account  TEXT PRIMARY KEY,
    reading  INTEGER NOT NULL,
    currency TEXT,
    timezone TEXT,
    since    INTEGER,                        -- from this day to `until` every day is known
    until    INTEGER,
    at       INTEGER,                        -- when the last whole reading ended (ms)
    unread   INTEGER NOT NULL,               -- rows of it that were of no use
    fault    TEXT,                           -- why the last one failed, and since when they do
    fault_at INTEGER
) STRICT, WITHOUT ROWID;
