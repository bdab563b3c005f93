"""Consent that is taken back: what was kept of the visitor goes, what the shop needs of its orders stays.

The visitor's clicks lose their device keys and address, in the index too, and are never a candidate again; conversions
lose the person and the attribution; what has not been delivered is not (the courier asks a conversion's flags before it
sends). Other orders that were given one of the clicks, and renewals, are matched anew, closed ones too: as if they were
told only now. Nothing else tells that somebody withdrew.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from typing import Final

import apsw
import msgspec
from msgspec import structs

from collector.core import orders
from collector.core.events import StoredEvent
from collector.core.flags import WITHDRAWN
from collector.exchange import clicks
from collector.exchange.operations import Withdraw
from collector.exchange.rows import ClickRow, ConversionRow
from collector.exchange.stores import Store
from collector.storage.index import leaving
from collector.storage.index.lookup import Lookup
from collector.storage.index.tables import CLICKS, CONVERSIONS
from collector.storage.journal.clicks import Clicks
from collector.storage.journal.conversions import Conversions
from collector.storage.journal.late import Late

_encode = msgspec.msgpack.Encoder().encode
_decode_event = msgspec.msgpack.Decoder(StoredEvent).decode
MOST: Final = 2_000  # rows of one visitor; who has more is a script
_UPDATE_CLICK: Final = (
    "UPDATE click SET visitor_k = NULL, fbp_k = NULL, ip_k = NULL, ua_k = NULL, fp_k = NULL, flags = ?, body = ? "
    "WHERE id = ?"
)
_CREDITED: Final = (
    f"SELECT id FROM conversion WHERE click IN (SELECT value FROM carray(?)) ORDER BY id DESC LIMIT {MOST}"
)


class Withdrawals:
    """Owned by the writer thread."""

    def __init__(
        self,
        db: apsw.Connection,
        lookup: Lookup,
        clicks: Clicks,
        conversions: Conversions,
        late: Late,
        stores: Mapping[int, Store],
    ) -> None:
        self._db = db
        self._lookup = lookup
        self._clicks = clicks
        self._conversions = conversions
        self._late = late
        self._stores = stores

    def take(self, asked: Withdraw, now: int) -> None:
        """Forget the visitor in everything stored so far, and what others were given of it."""
        self._clicks.flush()
        self._conversions.flush()
        self._db.execute("DELETE FROM identity_link WHERE store = ? AND visitor_k = ?", (asked.store, asked.visitor_k))
        name, find = asked.visitor_k, self._lookup.find
        forgotten = [
            click
            for click in self._lookup.click_rows(set(find(CLICKS, "visitor", name, 0, MOST)))
            if click.store == asked.store and clicks.read(click).visitor_id == asked.visitor
        ]
        for click in forgotten:
            self._forget_click(click)
        ids = {*find(CONVERSIONS, "visitor", name, 0, MOST), *self._conversions.identities.gained_by(name, MOST)}
        own = [
            row
            for row in self._lookup.conversion_rows(ids)
            if row.store == asked.store and _decode_event(row.body).visitor_id == asked.visitor
        ]
        for row in own:
            self._forget_person(row, now)
        self._late.rematch(self._indebted(asked.store, forgotten, own), own, asked.store, now)

    def _indebted(self, store: int, forgotten: list[ClickRow], own: list[ConversionRow]) -> dict[int, ConversionRow]:
        """Others that were given one of the clicks, their renewals, and the renewals of the visitor's own orders."""
        ids = self._renewals(own)
        if forgotten:
            given = apsw.carray(memoryview(array("q", [click.id for click in forgotten])))
            ids |= {row[0] for row in self._db.execute(_CREDITED, (given,))}
        found: dict[int, ConversionRow] = {}
        while ids and len(found) < MOST:
            rows = [row for row in self._lookup.conversion_rows(ids) if row.store == store]
            found |= {row.id: row for row in rows}
            ids = self._renewals(rows) - found.keys()
        return found

    def _renewals(self, orders: Iterable[ConversionRow]) -> set[int]:
        renewals_of = self._conversions.identities.renewals_of
        return {i for order in orders if order.dedup_k is not None for i in renewals_of(order.dedup_k, MOST)}

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
        self._db.execute(_UPDATE_CLICK, (changed.flags, changed.body, row.id))
        self._db.execute("DELETE FROM click_network WHERE id = ?", (row.id,))
        self._lookup.changed(row, changed)  # by its fbclid it is still the click that it was

    def _forget_person(self, row: ConversionRow, now: int) -> None:
        store = self._stores.get(row.store)
        if store is not None and orders.outlives(_decode_event(row.body)):
            self._db.execute("DELETE FROM conversion_identity WHERE conversion = ? AND kind = 0", (row.id,))
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
        self._db.execute("DELETE FROM conversion_identity WHERE conversion = ?", (row.id,))
        self._conversions.update(changed)
        leaving.note(self._db, CONVERSIONS, row, kept=("dedup",))  # the same order must be known again
        if store is not None:
            self._conversions.reconsider(changed, store, now)
