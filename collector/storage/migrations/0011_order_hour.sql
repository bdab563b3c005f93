-- Orders by the hour that they were made in: with cookies and named by proof, with cookies and not, and all. By it a store
-- knows how many of its orders no ad has caused (storage/index/origins.py). kind: 0 purchases, 1 other conversions.
CREATE TABLE order_hour (
    store    INTEGER NOT NULL,
    kind     INTEGER NOT NULL,
    hour     INTEGER NOT NULL,               -- hours since 1970
    proven   INTEGER NOT NULL,
    unproven INTEGER NOT NULL,
    orders   INTEGER NOT NULL,
    PRIMARY KEY (store, kind, hour)
) STRICT, WITHOUT ROWID;

-- The newest purchases of before. 159 and 256: what learns from no order (core/flags.py).
INSERT INTO order_hour
SELECT store, 0, ts / 3600000,
       sum(method IS NOT NULL AND method IN ('click_id', 'fbclid', 'visitor_id', 'fbp', 'fbc_unseen')),
       sum((method IS NULL OR method NOT IN ('click_id', 'fbclid', 'visitor_id', 'fbp', 'fbc_unseen'))
           AND (visitor_k IS NOT NULL OR fbp_k IS NOT NULL)),
       count(*)
  FROM conversion
 WHERE id > (SELECT max(id) FROM conversion) - 300000 AND event_type = 'Purchase' AND flags & (159 | 256) = 0
 GROUP BY 1, 3;
