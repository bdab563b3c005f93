"""What arrives late: a click, or a link between a person and a visitor, may change the answer of an earlier conversion.

The final answer must not depend on the order of arrival. So what becomes known re-opens the conversions that share a
key with it, for 96 hours of event time: once a store has seen an event that much later than a conversion, the
conversion's answer stands. Nothing is sent a second time; what was not sent yet goes out with what the click adds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import apsw

from collector.core.flags import INELIGIBLE
from collector.storage.clicks import ClickResult, Clicks, NewClick
from collector.storage.conversions import Conversions, NewEvent
from collector.storage.lookup import Lookup
from collector.storage.stores import Store
from collector.storage.subjects import CONVERSIONS, ClickRow, ConversionRow

OPEN_MS: Final = 96 * 3_600_000
# Clocks of callers differ: a click may be stamped this much later than the conversion that it caused (matching.md 5).
SKEW_MS: Final = 5 * 60_000
_PER_KEY: Final = 32
_CLOCKS: Final = (
    "SELECT store, max(ts) FROM (SELECT store, ts FROM conversion ORDER BY id DESC LIMIT 10000) GROUP BY store"
)


# Where a click may be given once, an order that arrives late takes it from the orders after it.
_DISPLACED: Final = """
SELECT later.id FROM conversion own JOIN conversion later ON later.click = own.click
 WHERE own.id = ? AND later.event_type = own.event_type AND later.ts > own.ts"""


class Late:
    """Owned by the writer thread; keeps each store's event clock."""

    def __init__(
        self, db: apsw.Connection, lookup: Lookup, conversions: Conversions, clicks: Clicks, stores: Mapping[int, Store]
    ) -> None:
        self._db = db
        self._lookup = lookup
        self._conversions = conversions
        self._clicks = clicks
        self._stores = stores
        # The latest event time of a store's conversions, and of anything in it.
        self._conversion_clock: dict[int, int] = dict(db.execute(_CLOCKS))
        self._clock: dict[int, int] = dict(self._conversion_clock)

    def after_click(self, click: NewClick, result: ClickResult, now: int) -> None:
        """Re-open what a click that was just stored may have caused. On the usual path this is two comparisons."""
        store, ts = click.row[0], click.row[1]
        if ts > self._clock.get(store, 0):
            self._clock[store] = ts
        if ts <= self._conversion_clock.get(store, 0) + SKEW_MS:
            for row in self._lookup.click_rows({result.id}):
                self._reopen(self._sharing(row), store, now, ts - SKEW_MS)

    def after_event(self, new: NewEvent, now: int) -> None:
        """Move the clocks, and re-open what a new link between a person and a visitor may change."""
        store, ts = new.store.number, new.event.ts
        self._conversion_clock[store] = max(ts, self._conversion_clock.get(store, 0))
        self._clock[store] = max(ts, self._clock.get(store, 0))
        if self._conversions.related:
            related, self._conversions.related = self._conversions.related, set()
            self._reopen(related, store, now)
        if new.store.config.count == "one":
            self._conversions.flush()
            self._reopen(
                {row[0] for row in self._db.execute(_DISPLACED, (self._lookup.last[CONVERSIONS],))}, store, now
            )

    def again(self, conversion: int, now: int) -> None:
        """Look at one conversion again, while it is open: its values may have become more common or rarer."""
        for row in self._lookup.conversion_rows({conversion}):
            self._reopen({row.id}, row.store, now)

    def _sharing(self, click: ClickRow) -> set[int]:
        """Conversions that share a key with the click and are not earlier than it."""
        if click.flags & INELIGIBLE:
            return set()
        ids: set[int] = set()
        since = click.ts - SKEW_MS
        find, identities = self._lookup.find, self._conversions.identities
        for key, name in (("fbclid", click.fbclid_k), ("visitor", click.visitor_k), ("fbp", click.fbp_k)):
            if name is not None:
                ids.update(find(CONVERSIONS, key, name, since, _PER_KEY))
        for key, name in (("ip", click.ip_k), ("fp", click.fp_k)):
            if name is not None:
                ids.update(i for i in find(CONVERSIONS, key, name, since, _PER_KEY) if self._may_infer(i, click.ts))
        if click.visitor_k is not None:
            ids |= identities.conversions_with(identities.values_of(click.store, click.visitor_k))
        if self._conversions.gained:  # by a merge, maybe after their rows were folded into the index
            names = [n for n in (click.fbclid_k, click.visitor_k, click.fbp_k, click.ip_k, click.fp_k) if n is not None]
            ids |= identities.conversions_with(names)
        return ids

    def _reopen(self, ids: set[int], store: int, now: int, since: int = 0) -> None:
        """Match those of the conversions anew that are of `since` (ms, event time) or later, and still open."""
        known = self._stores.get(store)
        if known is None or not ids:
            return
        for row in sorted(self._lookup.conversion_rows(ids), key=lambda row: (row.ts, row.id)):
            if row.store == store and row.ts >= since and self._is_open(row):
                self._clicks.flush()
                self._conversions.reconsider(row, known, now)

    def _may_infer(self, conversion: int, ts: int) -> bool:
        """Whether a click of `ts` on the same address or device may be the cause: not of what is proved or earlier.

        One click at a hot address would match 32 conversions anew for nothing.
        """
        row = self._lookup.conversions.get(conversion)
        return row is None or (row.ts >= ts and row.method in (None, "probabilistic"))

    def _is_open(self, row: ConversionRow) -> bool:
        return self._clock.get(row.store, 0) - row.ts <= OPEN_MS
