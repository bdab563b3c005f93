-- Custom event names by store, as reports may show them. Those that only pages have told are 64 a store for all time:
-- a page is anybody, and a stranger may call his events as he likes. What is here already keeps its name.
CREATE TABLE event_name (
    store INTEGER NOT NULL,
    name TEXT NOT NULL,
    by_page INTEGER NOT NULL,
    PRIMARY KEY (store, name)
) STRICT, WITHOUT ROWID;

INSERT INTO event_name
SELECT store, event_type, 1 FROM (
    SELECT store, event_type, row_number() OVER (PARTITION BY store ORDER BY count(*) DESC) AS place
      FROM (SELECT store, event_type FROM conversion WHERE store > 0 ORDER BY id DESC LIMIT 200000)
     WHERE event_type NOT IN (
         'AddPaymentInfo', 'AddToCart', 'AddToWishlist', 'CompleteRegistration', 'Contact',
         'CustomizeProduct', 'Donate', 'FindLocation', 'InitiateCheckout', 'Lead',
         'PageView', 'Purchase', 'Schedule', 'Search', 'StartTrial',
         'SubmitApplication', 'Subscribe', 'ViewContent'
     )
     GROUP BY store, event_type
) WHERE place <= 64;
