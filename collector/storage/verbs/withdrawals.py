"""Consent that is taken back: what was kept of the visitor goes, what the shop needs of its orders stays.

The visitor's clicks lose their device keys and address, in the index too, and are never a candidate again; conversions
lose the person and the attribution; what has not been delivered is not (the courier asks a conversion's flags before it
sends). Other orders that were given one of the clicks, and renewals, are matched anew, closed ones too: as if they were
told only now. Nothing else tells that somebody withdrew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec
from msgspec import structs

from collector.core import orders
from collector.core.events import StoredEvent
from collector.core.flags import WITHDRAWN
from collector.exchange import clicks
from collector.exchange.operations import Withdraw
from collector.exchange.rows import ClickRow, ConversionRow
from collector.exchange.stores import Store
from collector.storage.rules.tables import CLICKS, CONVERSIONS
from collector.storage.verbs.conversions import Conversions
from collector.storage.verbs.ports import Parts

_encode = msgspec.msgpack.Encoder().encode
_decode_event = msgspec.msgpack.Decoder(StoredEvent).decode
MOST: Final = 2_000  # rows of one visitor; who has more is a script

Rematch = Callable[[dict[int, ConversionRow], list[ConversionRow], int, int], None]


class Withdrawals:
    """Owned by the writer thread."""

    def __init__(self, parts: Parts, conversions: Conversions, rematch: Rematch, stores: Mapping[int, Store]) -> None:
        """`rematch`: has some matched anew though their time may be over, and what rests on others that lost theirs."""
        self._lookup = parts.lookup
        self._clicks = parts.clicks
        self._rows = parts.rows
        self._identities = parts.identities
        self._conversions = conversions
        self._rematch = rematch
        self._stores = stores

    def take(self, asked: Withdraw, now: int) -> None:
        """Forget the visitor in everything stored so far, and what others were given of it."""
        self._clicks.flush()
        self._conversions.flush()
        self._identities.forget_visitor(asked.store, asked.visitor_k)
        name, find, store = asked.visitor_k, self._lookup.find, asked.store
        forgotten = [
            click
            for click in self._lookup.click_rows(set(find(CLICKS, "visitor", name, 0, MOST, store=store)))
            if click.store == asked.store and clicks.read(click).visitor_id == asked.visitor
        ]
        for click in forgotten:
            self._forget_click(click)
        ids = set(find(CONVERSIONS, "visitor", name, 0, MOST, store=store))
        ids |= self._identities.gained_by(name, MOST, store=store)
        own = [
            row
            for row in self._lookup.conversion_rows(ids)
            if row.store == asked.store and _decode_event(row.body).visitor_id == asked.visitor
        ]
        for row in own:
            self._forget_person(row, now)
        self._rematch(self._indebted(asked.store, forgotten, own), own, asked.store, now)

    def _indebted(self, store: int, forgotten: list[ClickRow], own: list[ConversionRow]) -> dict[int, ConversionRow]:
        """Others that were given one of the clicks, their renewals, and the renewals of the visitor's own orders."""
        ids = self._renewals(own)
        if forgotten:
            ids |= self._rows.credited([click.id for click in forgotten], MOST, store=store)
        found: dict[int, ConversionRow] = {}
        while ids and len(found) < MOST:
            rows = [row for row in self._lookup.conversion_rows(ids) if row.store == store]
            found |= {row.id: row for row in rows}
            ids = self._renewals(rows) - found.keys()
        return found

    def _renewals(self, orders: Iterable[ConversionRow]) -> set[int]:
        known = [(order.dedup_k, order.store) for order in orders if order.dedup_k is not None]
        return {i for name, store in known for i in self._identities.renewals_of(name, MOST, store=store)}

    def _forget_click(self, row: ClickRow) -> None:
        changed = row._replace(
            visitor_k=None,
            fbp_k=None,
            ip_k=None,
            ua_k=None,
            fp_k=None,
            flags=row.flags | WITHDRAWN,
            body=_encode(clicks.without_visitor(clicks.read(row))),
        )
        self._clicks.withdraw(row, changed)  # by its fbclid it is still the click that it was

    def _forget_person(self, row: ConversionRow, now: int) -> None:
        store = self._stores.get(row.store)
        if store is not None and orders.outlives(_decode_event(row.body)):
            self._identities.forget_gained(row.id)
            self._conversions.lose_device(row, store, now)  # T5
            return
        event = structs.replace(orders.without_person(_decode_event(row.body)), marketing="denied", unasked=False)
        changed = row._replace(
            fbclid_k=None,
            visitor_k=None,
            fbp_k=None,
            ip_k=None,
            ua_k=None,
            fp_k=None,
            flags=row.flags | WITHDRAWN,
            body=_encode(event),
        )
        self._identities.drop(row.id, row.store, None)
        self._conversions.update(changed)
        self._rows.lost(row, kept=("dedup",))  # the same order must be known again
        if store is not None:
            self._conversions.reconsider(changed, store, now)
