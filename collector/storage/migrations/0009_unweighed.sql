-- Pages' tellings of orders that are still to be weighed against what a server may have told of the same order. It is
-- done after the answer, so that the answer takes as long whether there is such an order or not.
CREATE TABLE unweighed (
    conversion INTEGER PRIMARY KEY
) STRICT;
