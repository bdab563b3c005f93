"""What a shop tells of an order, by webhook, pull or file: each delivery once (D1); and its own list of its orders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, cast

import msgspec

from collector.core.capi.states import CapiState
from collector.errors import ApiError
from collector.exchange.naming import NewEvent
from collector.exchange.operations import ShopDelivery, ShopTaken, ShopTold
from collector.exchange.shops import Page, Who
from collector.exchange.states import EventResult, EventState
from collector.exchange.stores import Store
from collector.storage.postgres.memory import Memory

KEPT_MS: Final = 8 * 86_400_000
_encode = msgspec.msgpack.Encoder().encode
Told = Callable[[ShopTold, NewEvent], EventResult | None]
Admitted = Callable[[NewEvent], NewEvent]


class Shops:
    """Over what a group knows. `erased`: names of those who were, which a request adds to at once."""

    def __init__(self, memory: Memory, stores: dict[str, Store], erased: dict[int, int]) -> None:
        self._memory, self._stores, self._erased = memory, stores, erased

    def take(self, told: ShopTold, admitted: Admitted, tell: Told) -> ShopTaken:
        """What came of a delivery, now or the first time; a repeat mends nothing, so all of it is an answer.

        `admitted`: the event as it may be stored, ApiError where it is word of somebody erased; `tell` stores it.
        """
        changes, page = self._memory.changes, told.page
        if page.inbox is not None:
            changes.read.add(page.inbox)
        known = self._known(told.delivery)
        if known is not None:
            changes.seen.append((told.delivery.store, known, page.seen))
            return ShopTaken(known, duplicate=True)
        try:
            taken = self._order(told, admitted, tell)
        except ApiError:
            taken = ShopTaken(None, "erased")  # what the edge has let through is refused for this alone
        one = told.delivery
        row = (self._memory.now, one.store, one.webhook, one.topic, taken.reason, taken.conversion)
        changes.deliveries[one.id] = row
        return taken

    def _known(self, delivery: ShopDelivery) -> int | None:
        """What came to nothing is looked at anew: settings may have changed."""
        if (own := self._memory.changes.deliveries.get(delivery.id)) is not None:
            return cast("int | None", own[-1])
        found: tuple[int | None, int] | None = self._memory.must(("delivery", delivery.id))
        if found is None or found[1] < self._memory.now - KEPT_MS:
            return None
        return found[0]

    def _order(self, told: ShopTold, admitted: Admitted, tell: Told) -> ShopTaken:
        if told.request is not None:
            self._request(told.delivery, told.request)
        new = told.event
        if new is None:
            out = told.page.kept_out
            if out is None or out.name not in self._erased:
                self._keep_out(told.delivery.store, told.page, told.reason or "")
            return ShopTaken(None, told.reason)
        if not self._erased.keys().isdisjoint(told.names):
            return ShopTaken(None, "erased")
        taken = tell(told, admitted(new))
        if taken is None:
            return ShopTaken(None, "no_order")
        self._enter(told, taken.state)
        return ShopTaken(taken.state.row.id)

    def _request(self, delivery: ShopDelivery, who: Who) -> None:
        """Note what a platform asks for a person (P1-P3); the same delivery again is the same request."""
        memory, name = self._memory, "req_" + delivery.id[:8].hex()
        memory.changes.requests.append((name, who.store, who.kind, memory.now, _encode(who)))
        store = self._stores.get(who.store)
        if who.kind == "redact" and store is not None:
            for key in sorted(set(who.names)):
                memory.changes.erased.append((store.number, key, memory.now))
                self._erased[key] = memory.now

    def _enter(self, told: ShopTold, known: EventState) -> None:
        """Enter the order in the shop's own list, by what is known of it now."""
        row, event, page = known.row, known.event, told.page
        if row.dedup_k is None:
            return
        kept_out = known.state in (CapiState.SKIPPED, CapiState.DISABLED)
        reason = (known.reason or "skipped") if kept_out else None
        value, currency = str(event.value) if event.value is not None else None, event.currency or ""
        changes, place = self._memory.changes, (row.store, row.id)
        if place in changes.booked or self._memory.ask(("booked", *place), 0):
            changes.booked[place] = (event.order_status, value, currency, event.ts, page.channel, reason, page.seen)
            return
        own = told.event.order_k if told.event is not None else None
        called = {name for name in (own, *told.names, *told.numbers) if name is not None}
        changes.settled |= {
            (row.store, name) for name in called - {row.dedup_k}
        }  # what a file knew by its number alone
        shown = (event.order_id or "", event.ts, event.order_status, value, currency, page.channel, reason, row.id)
        changes.book[row.store, row.dedup_k] = (*shown, page.seen, self._memory.now)

    def _keep_out(self, store: int, page: Page, reason: str) -> None:
        """An order of which nothing else is stored, and why."""
        if (one := page.kept_out) is not None:
            value = str(one.value) if one.value is not None else None
            shown = (one.called, one.ts, one.status, value, one.currency, page.channel, reason, None)
            self._memory.changes.book[store, one.name] = (*shown, page.seen, self._memory.now)
