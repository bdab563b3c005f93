-- Conversions that are to be matched anew, since something became known that may change their answers: by the edge that
-- learnt it, between groups, or by whoever starts after it (storage/journal/late.py).
CREATE TABLE reopened (
    conversion INTEGER PRIMARY KEY
) STRICT;
