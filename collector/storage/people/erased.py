"""Who asked to be forgotten stays forgotten: what arrives about an erased person afterwards.

    the order that was erased           refused: it would be stored, and sent to Meta, a second time
    anything from before the erasure    refused: it is late word of what was erased
    anything newer                      taken, without the old names: a new visitor

The names are keyed hashes, written by `collector erase` (erasure.py) in the transaction that takes the rows away.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, cast

import apsw
import msgspec
from msgspec import structs

from collector.core.events import StoredClick
from collector.core.orders import without_person
from collector.errors import ApiError
from collector.exchange.clicks import NewClick
from collector.exchange.naming import NewEvent

_encode = msgspec.msgpack.Encoder().encode
_decode_click = msgspec.msgpack.Decoder(StoredClick).decode
_SINCE: Final = "SELECT id, name, at FROM erased WHERE id > ? ORDER BY id"
_LATE: Final = "this is from before its visitor or customer was erased on request, and is not stored again"
_ORDER: Final = "this order was erased on request; it is neither stored nor sent again"


class Erased:
    """Owned by the writer."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        self._last = 0
        self._at: dict[int, int] = {}  # when (ms), by name; names of two stores are never the same

    def __bool__(self) -> bool:
        return bool(self._at)

    @property
    def names(self) -> Mapping[int, int]:
        """When (ms) each was erased, by name; it only grows."""
        return self._at

    def refresh(self) -> list[int]:
        """Learn of erasures since the last call, inside a transaction: their names."""
        newest = self._db.execute("SELECT max(id) FROM erased").get
        if newest is None or newest == self._last:
            return []
        rows = cast("list[tuple[int, int, int]]", self._db.execute(_SINCE, (self._last,)).fetchall())
        for self._last, name, at in rows:
            self._at[name] = max(at, self._at.get(name, 0))
        return [name for _, name, _ in rows]

    def admit(self, click: NewClick) -> NewClick | ApiError:
        """A click as it may be stored."""
        _, ts, _, _, fbclid_k, visitor_k, fbp_k, *_ = click.row
        if fbclid_k in self._at:  # reported again: the click that was erased
            return ApiError("forbidden", _LATE)
        if visitor_k not in self._at and fbp_k not in self._at:
            return click
        if ts <= max(self._at.get(visitor_k, 0), self._at.get(fbp_k, 0)):
            return ApiError("forbidden", _LATE)
        return self._newcomer(click)

    def _newcomer(self, click: NewClick) -> NewClick:
        """The click without the visitor that it still names."""
        row = list(click.row)
        row[5] = row[6] = None  # visitor_k, fbp_k
        row[-1] = _encode(structs.replace(_decode_click(click.row[-1]), visitor_id=None, fbp=None, fbc=None))
        return NewClick(tuple(row), click.network, None, click.fbclid)

    def admit_event(self, new: NewEvent) -> NewEvent | ApiError:
        """A conversion or funnel event as it may be stored."""
        query, at = new.query, self._at
        if new.dedup_k in at:
            return ApiError("order_conflict", _ORDER, "orderId")
        if new.order_k in at:  # a page is not told that there was such an order: of its telling nobody is kept
            nobody = structs.replace(query, visitor_k=None, fbp_k=None, fbclid_k=None, fbc_k=None, ip_k=None, fp_k=None)
            return structs.replace(new, event=without_person(new.event), query=nobody, identities=[], told=None)
        own = [query.visitor_k, query.fbp_k, query.fbclid_k, query.fbc_k]
        own += [key for kind, key in new.identities if kind != "email_weak"]  # a mailbox may be a whole family's
        own += [new.former.get(name or 0) for name in own]
        held = {name for name in own if name in at}
        if held and new.event.ts <= max(at.get(name, 0) for name in held if name is not None):
            return ApiError("forbidden", _LATE)
        held |= {key for _, key in new.identities if key in at or new.former.get(key) in at}
        if not held:
            return new
        gone = {column for column in ("visitor", "fbp", "fbclid", "fbc") if getattr(query, f"{column}_k") in held}
        event = structs.replace(new.event, **{"visitor_id" if c == "visitor" else c: None for c in gone})
        query = structs.replace(query, **{f"{column}_k": None for column in gone})
        if "fbp" in gone:
            query.jar_since = None
        if "fbc" in gone:
            query.fbc_created = None
        kept = [(kind, key) for kind, key in new.identities if key not in held]
        return structs.replace(new, event=event, query=query, identities=kept)
