-- How far full buckets are merged, eight to one (storage/index/merging.py).
CREATE TABLE merged (
    subject TEXT PRIMARY KEY,
    through INTEGER NOT NULL,                -- every bucket below it has its entries under its group's first bucket
    step    INTEGER NOT NULL                 -- of the group that begins there: slices that are moved already
) STRICT, WITHOUT ROWID;
