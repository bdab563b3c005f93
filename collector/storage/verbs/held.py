"""What `collector export-person` tells: all that is kept of a person, found by the rule by which erasure finds it.

What an erasure would take out of somebody else's order (the person's device) is told without that order's own facts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from collector.core import times
from collector.core.capi.states import name_of
from collector.core.events import StoredClick, StoredEvent
from collector.core.ids import PublicIds
from collector.core.matching import Match
from collector.exchange.naming import KINDS
from collector.exchange.rows import ClickRow, ConversionRow
from collector.storage.verbs.person import Person

Item = dict[str, Any]
_KIND: Final = {number: name for name, number in KINDS.items()}
_SHARED: Final = "a value belongs to more browsers or customers than one person has: nobody was followed from it"


class Sent(NamedTuple):
    """One event for one pixel; `body`: Meta's form, while it is kept."""

    outbox: int
    pixel: str | None
    state: int
    created: int
    settled: int | None
    reason: str | None
    request: int | None
    body: bytes | None


class Holding(Protocol):
    """What an engine keeps beside a person's rows, in one store."""

    def network(self, click: int) -> tuple[str | None, str | None] | None:
        """Raw address and user agent of a click."""
        ...

    def sent(self, conversion: int) -> Iterable[Sent]: ...
    def attempts(self, outbox: int, request: int | None) -> Iterable[tuple[Any, ...]]:
        """When, outcome, status, code, subcode, trace and message of every request with the event."""
        ...

    def told(self, conversion: int) -> Iterable[tuple[Any, ...]]:
        """The order's number, its moment, status, value, currency, channel and reason, as its shop told them."""
        ...

    def links(self) -> Iterable[tuple[int, int]]:
        """Of each link of the person: its kind, and when it was last seen."""
        ...


def item_of(store: str, person: Person, public: PublicIds, holding: Holding) -> Item:
    """All of a person in one store."""
    return _Held(holding, public, person).item(store)


class _Held:
    """One person in one store."""

    def __init__(self, holding: Holding, ids: PublicIds, person: Person) -> None:
        self._holding, self._ids, self._person = holding, ids, person

    def item(self, store: str) -> Item:
        person = self._person
        return {
            "store": store,
            "clicks": [self._click(row) for _, row in sorted(person.clicks.items())],
            "events": [self._event(row) for _, row in sorted(person.conversions.items())],
            "ordersOfOthersOnTheirDevice": [self._device(row) for _, row in sorted(person.others.items())],
            "browsers": len(person.visitors),
            "links": sorted((_KIND.get(k, str(k)), times.text(last)) for k, last in self._holding.links()),
            "note": _SHARED if person.shared else None,
        }

    def _click(self, row: ClickRow) -> Item:
        found = self._holding.network(row.id)
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
                {"order": called, "at": times.text(ts), **dict(zip(_SHOP_FIELDS, rest, strict=True))}
                for called, ts, *rest in self._holding.told(row.id)
            ],
            "deliveries": list(self._deliveries(row.id)),
        }

    def _deliveries(self, conversion: int) -> Iterator[Item]:
        for one in self._holding.sent(conversion):
            yield {
                "pixel": one.pixel,
                "status": name_of(one.state),
                "queued": times.text(one.created),
                "settled": one.settled and times.text(one.settled),
                "reason": one.reason,
                "attempts": [
                    {"at": times.text(at), **dict(zip(_ATTEMPT_FIELDS, rest, strict=True))}
                    for at, *rest in self._holding.attempts(one.outbox, one.request)
                ],
                "event": msgspec.json.decode(one.body) if one.body else None,  # Meta's form, while it is kept
            }

    def _device(self, row: ConversionRow) -> Item:
        event = msgspec.msgpack.decode(row.body, type=StoredEvent)
        return {
            "conversionId": self._ids.public("conv", row.id),
            **{name: getattr(event, name) for name in ("visitor_id", "fbp", "fbc", "fbclid")},
        }


_CLICK_FIELDS: Final = StoredClick.__struct_fields__
_SHOP_FIELDS: Final = ("status", "value", "currency", "channel", "reason")
_ATTEMPT_FIELDS: Final = ("outcome", "httpStatus", "code", "subcode", "traceId", "message")
