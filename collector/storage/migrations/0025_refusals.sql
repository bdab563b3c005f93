-- What the API refused of late, one by one; all of it is in refusal_sum. The newest 500 of each code, of 30 days (kept by the keeper).
CREATE TABLE refusal (
    id     INTEGER PRIMARY KEY,
    at     INTEGER NOT NULL,                 -- ms, of the keeper's hearing of it
    code   TEXT NOT NULL,
    field  TEXT NOT NULL,                    -- '' where the answer named none
    called TEXT NOT NULL                     -- the order's number as its sender wrote it; '' where it could not be read
) STRICT;
