-- Who vouches for a link (core/matching/links.py): when a server first told of both (event time, ms), or NULL where only
-- a page did; and the name of the address prefix and the day from which the claim came.
ALTER TABLE identity_link ADD COLUMN confirmed_ts INTEGER;
ALTER TABLE identity_link ADD COLUMN source INTEGER NOT NULL DEFAULT 0;

-- Links of before: those are confirmed that a purchase bears out which a server told in one telling. Of any other nobody
-- knows whether a page brought one of the two; they are claims until a server tells of both again.
UPDATE identity_link SET confirmed_ts = (
    SELECT min(c.ts) FROM conversion_identity i JOIN conversion c ON c.id = i.conversion
     WHERE i.key = identity_link.key AND i.kind = identity_link.kind AND c.store = identity_link.store
       AND c.visitor_k = identity_link.visitor_k AND c.event_type = 'Purchase' AND c.flags & 128 = 0 AND c.revision = 0);

-- Values of people are named by their SHA-256 since then, which may come in their place. What conversions through this
-- one have named is asked for under both names (storage/people/identities.py) until retention has taken the last of them.
CREATE TABLE renamed (
    id         INTEGER PRIMARY KEY CHECK (id = 1),
    conversion INTEGER NOT NULL
) STRICT;
INSERT INTO renamed SELECT 1, max(id) FROM conversion HAVING max(id) IS NOT NULL;
