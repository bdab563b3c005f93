"""What becomes of a shop's deliveries inside the writer's transaction: each once, each order in the shop's own list."""

from __future__ import annotations

from collections.abc import Callable

import apsw

from collector.errors import ApiError
from collector.exchange.operations import ShopTaken, ShopTold
from collector.exchange.shops import Page
from collector.exchange.states import EventState
from collector.storage.journal.late import Late
from collector.storage.journal.shop_orders import Deliveries
from collector.storage.people.erased import Erased
from collector.storage.rules.erased import or_raise
from collector.storage.shops.book import Book
from collector.storage.shops.requests import Requests
from collector.storage.verbs.conversions import Conversions


class Shops:
    """Owned by the writer thread. `heed` takes erasures of this transaction into account at once."""

    def __init__(
        self, db: apsw.Connection, conversions: Conversions, late: Late, erased: Erased, heed: Callable[[], None]
    ) -> None:
        self._conversions, self._late, self._erased, self._heed = conversions, late, erased, heed
        self._deliveries, self._book, self._requests = Deliveries(db), Book(db), Requests(db)

    def take(self, told: ShopTold, now: int) -> ShopTaken:
        """What came of a delivery, now or the first time (D1); a repeat mends nothing, so all of it is an answer."""
        known = self._deliveries.known(told.delivery, now)
        self._book.take_out(told.page)
        if known is not None:
            self._book.see(known.conversion or 0, told.page)
            return known
        try:
            taken = self._order(told, now)
        except ApiError:
            taken = ShopTaken(None, "erased")  # what the edge has let through is refused for this alone
        self._deliveries.keep(told.delivery, taken, now)
        return taken

    def _order(self, told: ShopTold, now: int) -> ShopTaken:
        new = told.event
        if told.request is not None:
            self._requests.take(told.delivery, told.request, now)
            self._heed()
        if new is None:
            if not self._is_erased(told.page):
                self._book.keep_out(told.delivery.store, told.page, told.reason or "", now)
            return ShopTaken(None, told.reason)
        if self._erased:
            if not self._erased.names.keys().isdisjoint(told.names):
                return ShopTaken(None, "erased")
            new = or_raise(self._erased.admit_event(new))
        taken = self._conversions.take_shop(told, new, now)
        if taken is None:
            return ShopTaken(None, "no_order")
        self._late.after_event(new.store, new.event.ts, taken, now)
        self._enter(told, taken.state, now)
        return ShopTaken(taken.state.row.id)

    def _is_erased(self, page: Page) -> bool:
        return page.kept_out is not None and page.kept_out.name in self._erased.names

    def _enter(self, told: ShopTold, known: EventState, now: int) -> None:
        """Enter the order in the shop's own list, by what is known of it now."""
        row = known.row
        if row.dedup_k is None:
            return
        own = told.event.order_k if told.event is not None else None
        called = {name for name in (row.dedup_k, own, *told.names, *told.numbers) if name is not None}
        standing = (known.state, known.reason)
        self._book.enter(row.store, row.id, row.dedup_k, known.event, standing, told.page, called, now)
