"""The verb of `collector export-person`: all that is kept of a person, found by the rule by which erasure finds it.

What an erasure would take out of somebody else's order (the person's device) is told without that order's own facts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, cast

import apsw
import msgspec

from collector.config import Config
from collector.core import times
from collector.core.capi.states import name_of
from collector.core.events import StoredClick, StoredEvent
from collector.core.ids import PublicIds
from collector.core.matching import Match
from collector.exchange.naming import KINDS
from collector.exchange.rows import ClickRow, ConversionRow
from collector.storage.people.erasure import opened, stores_of
from collector.storage.verbs.person import Asked, Person

Item = dict[str, Any]
_NETWORK: Final = "SELECT ip, user_agent FROM click_network WHERE id = ?"
_DELIVERIES: Final = """
SELECT o.id, p.name, o.state, o.created, o.settled, o.reason, o.request, b.body
  FROM outbox o LEFT JOIN pixel p ON p.id = o.pixel LEFT JOIN outbox_payload b ON b.id = o.id
 WHERE o.conversion = ? ORDER BY o.id"""
_ATTEMPTS: Final = """
SELECT at, outcome, http_status, code, subcode, trace_id, message FROM request
 WHERE id = ?1 OR id IN (SELECT request FROM attempt WHERE outbox = ?2) ORDER BY id"""
_SHOP: Final = "SELECT called, ts, status, value, currency, channel, reason FROM shop_order WHERE conversion = ?"
_LINKS: Final = """
SELECT kind, last_ts FROM identity_link WHERE store = ? AND kind = ? AND key = ? AND visitor_k = ?"""
_KIND: Final = {number: name for name, number in KINDS.items()}
_SHARED: Final = "a value belongs to more browsers or customers than one person has: nobody was followed from it"


def held_of(config: Config, store: str | None, asked: Asked, now: int) -> Item:
    """Every row of a person, of one store or of all, with what Meta was sent and when; nothing is changed.

    StorageError when there is no database or no such store, Nameless when nothing can be found by what was given.
    """
    with opened(config) as (db, eraser):
        people = eraser.look(stores_of(db, config, store), asked)
        ids = eraser.public
        return {
            "at": times.text(now),
            "stores": [_Held(db, ids, person, eraser.links(person)).item(name) for name, person in people.items()],
        }


class _Held:
    """One person in one store."""

    def __init__(self, db: apsw.Connection, ids: PublicIds, person: Person, links: set[Any]) -> None:
        self._db, self._ids, self._person, self._links = db, ids, person, links

    def item(self, store: str) -> Item:
        person = self._person
        return {
            "store": store,
            "clicks": [self._click(row) for _, row in sorted(person.clicks.items())],
            "events": [self._event(row) for _, row in sorted(person.conversions.items())],
            "ordersOfOthersOnTheirDevice": [self._device(row) for _, row in sorted(person.others.items())],
            "browsers": len(person.visitors),
            "links": sorted(self._link(link) for link in self._links),
            "note": _SHARED if person.shared else None,
        }

    def _click(self, row: ClickRow) -> Item:
        found = cast("tuple[str | None, str | None] | None", self._db.execute(_NETWORK, (row.id,)).fetchone())
        click = msgspec.to_builtins(msgspec.msgpack.decode(row.body, type=StoredClick))
        return {
            "clickId": self._ids.public("click", row.id),
            "timestamp": times.text(row.ts),
            "lastSeen": times.text(row.last_ts),
            "received": times.text(row.received),
            **dict(zip(_CLICK_FIELDS, click, strict=True)),
            "ipAddress": found and found[0],
            "userAgent": found and found[1],
        }

    def _event(self, row: ConversionRow) -> Item:
        event = msgspec.to_builtins(msgspec.msgpack.decode(row.body, type=StoredEvent))
        judged = msgspec.msgpack.decode(row.match, type=Match)
        return {
            "conversionId": self._ids.public("conv", row.id),
            **event,
            "ts": times.text(row.ts),
            "received": times.text(row.received),
            "attribution": {
                "attributed": judged.attributed,
                "clickId": None if row.click is None else self._ids.public("click", row.click),
                "confidence": row.confidence,
                "method": row.method,
                "reason": judged.reason,
            },
            "shop": [
                {"order": called, "at": times.text(cast(int, ts)), **dict(zip(_SHOP_FIELDS, rest, strict=True))}
                for called, ts, *rest in self._db.execute(_SHOP, (row.id,))
            ],
            "deliveries": list(self._deliveries(row.id)),
        }

    def _deliveries(self, conversion: int) -> Iterator[Item]:
        rows = cast("list[Any]", self._db.execute(_DELIVERIES, (conversion,)).fetchall())
        for number, pixel, state, created, settled, reason, request, body in rows:
            yield {
                "pixel": pixel,
                "status": name_of(state),
                "queued": times.text(created),
                "settled": settled and times.text(settled),
                "reason": reason,
                "attempts": [
                    {"at": times.text(cast(int, at)), **dict(zip(_ATTEMPT_FIELDS, rest, strict=True))}
                    for at, *rest in self._db.execute(_ATTEMPTS, (request, number))
                ],
                "event": msgspec.json.decode(body) if body else None,  # Meta's form, while it is kept
            }

    def _device(self, row: ConversionRow) -> Item:
        event = msgspec.msgpack.decode(row.body, type=StoredEvent)
        return {
            "conversionId": self._ids.public("conv", row.id),
            **{name: getattr(event, name) for name in ("visitor_id", "fbp", "fbc", "fbclid")},
        }

    def _link(self, link: tuple[int, int, int, int]) -> tuple[str, str]:
        kind, last = cast("tuple[int, int]", self._db.execute(_LINKS, link).fetchone())
        return _KIND.get(kind, str(kind)), times.text(last)


_CLICK_FIELDS: Final = StoredClick.__struct_fields__
_SHOP_FIELDS: Final = ("status", "value", "currency", "channel", "reason")
_ATTEMPT_FIELDS: Final = ("outcome", "httpStatus", "code", "subcode", "traceId", "message")
