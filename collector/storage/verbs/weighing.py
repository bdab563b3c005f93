"""What pages said of an order, weighed against what its server or shop tells: inside the writer's transaction."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Final

import msgspec
from msgspec import Struct, structs

from collector.core import flags, orders
from collector.core.capi.states import CapiState
from collector.core.events import StoredEvent
from collector.core.keyed import KeyedHash
from collector.core.matching import Query
from collector.exchange.naming import NewEvent, Told, query_of, told_of
from collector.exchange.rows import ConversionRow
from collector.exchange.stores import Store
from collector.storage.rules.weighed import PageTelling, browser_of, completed, is_same_sale, own_of
from collector.storage.verbs.order_names import named
from collector.storage.verbs.ports import Parts, Tellings

TOLD_ELSEWHERE: Final = "a server or shop told this order: the page's telling is only a note"
_encode = msgspec.msgpack.Encoder().encode
_decode_event = msgspec.msgpack.Decoder(StoredEvent).decode


class Weighed(Struct, frozen=True):
    """An order beside what pages said of it: whether it confirms one, and has one's deliveries."""

    order: NewEvent
    confirmed: bool
    heir: StoredEvent | None  # the page's event whose delivery is the order's now


class Weighing:
    """Owned by the writer thread. `update` stores a changed row."""

    def __init__(self, names: KeyedHash, parts: Parts, update: Callable[[ConversionRow], None]) -> None:
        self._names = names
        self._lookup = parts.lookup
        self._outbox = parts.outbox
        self._update = update
        self._order_names = parts.order_names
        self.tellings = parts.tellings

    def page_order(self, event_id: int, new: NewEvent) -> NewEvent:
        """A page's telling as its own row, which is never the order's, however the order stands (T2, T4).

        One that nobody has to confirm would go out: if somebody has told the same order before, it is a note.
        """
        told = new.told
        if told is None:  # of an erased order
            return new
        if not new.query.flags & flags.UNCONFIRMED and self._is_told(new):
            event = structs.replace(new.event, note_of=0)
            query = structs.replace(new.query, flags=new.query.flags | flags.UNCONFIRMED)
            new = structs.replace(new, event=event, query=query)
        self.tellings.keep(event_id, told, store=new.store.number)
        return new

    def against_order(
        self, page: ConversionRow, store: Store, now: int
    ) -> tuple[ConversionRow, StoredEvent, StoredEvent, Query, NewEvent] | None:
        """A page's telling beside the order that a server or shop told, and what becomes of that.

        Its row, its event as it was and as it is now, the question that it asks now, and what changes it; None where
        nothing does.
        """
        told = _decode_event(page.body)
        name = self._names.name(store.number, "once", f"{told.event_type}\0o{told.order_id}")
        row = named(self._lookup, store.number, told.event_type, name)
        if row is None and self._order_names.any:
            row = self._order_names.order(store.number, told, name)
        return None if row is None or row.id == page.id else self._beside(page, row, store, now, told.order_id)

    def _beside(
        self, page: ConversionRow, row: ConversionRow, store: Store, now: int, called: str | None
    ) -> tuple[ConversionRow, StoredEvent, StoredEvent, Query, NewEvent] | None:
        """`called`: the name that the page has for the order."""
        old = _decode_event(row.body)
        told = told_of(
            self._names, store.number, structs.replace(old, order_id=called), None, ()
        )  # afterwards its visitor alone is a witness
        assert told is not None
        new = NewEvent(store, old, query_of(self._names, row, old), row.dedup_k, [], told=told)
        pages = list(page_tellings([page], self.tellings, told))
        for one in pages:
            self.make_note(one, row.id, now)
        new = completed(self._names, new, own_of(new, pages))
        event = orders.noted(structs.replace(new.event, event_id=old.event_id), [one.event for one in pages])
        return (row, old, event, new.query, new) if event != old else None

    def _is_told(self, new: NewEvent) -> bool:
        assert new.told is not None
        order = named(self._lookup, new.store.number, new.event.event_type, new.order_k)
        if order is None and self._order_names.any:
            order = self._order_names.order(new.store.number, new.event, new.order_k)
        return bool(self.tellings.of([new.told.order], store=new.store.number)) or order is not None

    def told_of(self, new: NewEvent) -> set[int]:
        """Pages' tellings (conversions) of this order."""
        if new.told is None or not self.tellings.any:
            return set()
        return self.tellings.of(new.told.names, store=new.store.number)

    def order(self, event_id: int, new: NewEvent, told: set[int], now: int) -> Weighed:
        """An order with what pages said of it before: notes; its own browser's keys fill gaps (T2)."""
        assert new.told is not None
        rows = [row for row in self._lookup.conversion_rows(told) if row.store == new.store.number]
        pages = list(page_tellings(rows, self.tellings, new.told))
        own = own_of(new, pages)
        new, heir = completed(self._names, new, own), self._handed_over(event_id, new, pages, own, now)
        event = orders.noted(new.event, [page.event for page in pages])
        if heir is not None and new.is_derived:
            event = structs.replace(event, event_id=heir.event.event_id)
        confirmed = bool(own) or any(is_same_sale(page.event, event) for page in pages)
        return Weighed(structs.replace(new, event=event), confirmed, heir.event if heir is not None else None)

    def _handed_over(
        self, event_id: int, new: NewEvent, pages: list[PageTelling], own: list[PageTelling], now: int
    ) -> PageTelling | None:
        """Make pages' tellings notes. The event of one that was right, which may be at Meta, becomes the order's."""
        heir: PageTelling | None = None
        for page in pages:
            sent = not page.row.flags & flags.UNCONFIRMED and self._outbox.delivery_of(page.row.id) is not None
            if heir is None and sent and (page in own or is_same_sale(page.event, new.event)):
                self._outbox.hand_over(page.row.id, event_id)
                heir = page
            self.make_note(page, event_id, now)
        return heir

    def make_note(self, page: PageTelling, order: int, now: int) -> None:
        """Have a page's telling count and go out no more: it is but a note of the order (a conversion)."""
        self._outbox.drop(page.row.id, now=now, reason=TOLD_ELSEWHERE)
        if page.event.note_of != order:
            event = structs.replace(page.event, note_of=order)
            marks = page.row.flags | flags.UNCONFIRMED
            self._update(page.row._replace(flags=marks, capi=int(CapiState.SKIPPED), body=_encode(event)))


def page_tellings(rows: Collection[ConversionRow], tellings: Tellings, told: Told) -> Iterator[PageTelling]:
    """The rows that are pages' word of the order that `told` names, the first first."""
    for row in sorted(rows):
        names = tellings.names_of(row.id)
        if told.order in names:
            event = _decode_event(row.body)
            yield PageTelling(row, event, browser_of(row, event, names, told))
