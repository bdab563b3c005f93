-- Purchases by store and time: a store's newest are found however many another store has. By time alone they were not.
DROP INDEX conversion_purchase;
CREATE INDEX conversion_purchase ON conversion (store, ts) WHERE event_type = 'Purchase';
