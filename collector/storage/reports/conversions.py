"""Why was a conversion attributed, or not, and what became of it: single conversions and the last ones."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct

from collector.core.events import StoredClick, StoredEvent
from collector.core.matching.shapes import Match
from collector.storage.reports.delivery import STATES_SQL, combined
from collector.storage.reports.reader import Reader

# The columns of Stored, in its order.
_STORED_SQL: Final = """
SELECT c.id, coalesce(s.name, ''), c.ts, c.received, c.event_type, c.flags, c.click, c.confidence, c.method"""
LAST_SQL: Final = f"""{_STORED_SQL}, c.capi, {STATES_SQL}, c.match
  FROM conversion c LEFT JOIN store s ON s.id = c.store WHERE c.id < ? AND c.store > 0 ORDER BY c.id DESC LIMIT ?"""
ONE_SQL: Final = f"""{_STORED_SQL}, c.capi, {STATES_SQL}, c.match, c.revision, c.body
  FROM conversion c LEFT JOIN store s ON s.id = c.store WHERE c.id = ? AND c.store > 0"""
CLICK_SQL: Final = """
SELECT k.id, coalesce(s.name, ''), k.ts, k.last_ts, k.received, k.flags, k.body
  FROM click k LEFT JOIN store s ON s.id = k.store WHERE k.id = ? AND k.store > 0"""
DELIVERY_SQL: Final = """
SELECT o.id, coalesce(p.name, ''), o.state, o.created, o.due, o.settled, o.attempts, o.doubts, o.doubt_at, o.reason
  FROM outbox o LEFT JOIN pixel p ON p.id = o.pixel WHERE o.conversion = ? ORDER BY o.id"""
ATTEMPT_SQL: Final = """
SELECT r.id, r.at, r.events, r.outcome, r.http_status, r.code, r.subcode, r.trace_id, r.message, r.took_ms
  FROM request r
 WHERE r.id IN (SELECT request FROM attempt WHERE outbox = ?1 UNION SELECT request FROM outbox WHERE id = ?1)
 ORDER BY r.id"""

_decode_click = msgspec.msgpack.Decoder(StoredClick).decode
_decode_event = msgspec.msgpack.Decoder(StoredEvent).decode
_decode_match = msgspec.msgpack.Decoder(Match).decode


class _Reason(Struct):
    reason: str | None = None


_decode_reason = msgspec.msgpack.Decoder(_Reason).decode


class Stored(Struct, frozen=True):
    """A conversion's own columns: nothing personal."""

    id: int
    store: str
    ts: int
    received: int
    event_type: str
    flags: int
    click: int | None
    confidence: int | None
    method: str | None


class Line(Stored, frozen=True, kw_only=True):
    """One conversion in a list, and why it was not attributed."""

    reason: str | None
    capi: int


class Attempt(Struct, frozen=True):
    """One request to Meta that carried the event."""

    request: int
    at: int
    events: int
    outcome: str
    http_status: int | None
    code: int | None
    subcode: int | None
    trace_id: str | None
    message: str | None
    took_ms: int | None


class Delivery(Struct, frozen=True):
    """The event's way to one pixel."""

    tries: list[Attempt]
    id: int
    pixel: str
    state: int
    created: int
    due: int
    settled: int | None
    attempts: int
    doubts: int
    doubt_at: int | None
    reason: str | None


class Click(Struct, frozen=True):
    """A stored click."""

    body: StoredClick
    id: int
    store: str
    ts: int
    last_ts: int
    received: int
    flags: int


class Conversion(Stored, frozen=True, kw_only=True):
    """A stored conversion, its match, and its deliveries."""

    event: StoredEvent
    match: Match
    credited: Click | None
    deliveries: list[Delivery]
    capi: int
    revision: int


async def last(reader: Reader, *, before: int | None = None, limit: int = 50) -> list[Line]:
    """The last conversions, newest first; `before` is a conversion's row number."""
    rows = await reader.rows(LAST_SQL, before or 1 << 62, limit)
    return [
        Line(*stored, reason=_decode_reason(match).reason, capi=combined(capi, states))
        for *stored, capi, states, match in rows
    ]


async def find(reader: Reader, number: int) -> Conversion | None:
    """One conversion with everything about it; None when there is no such row."""
    row = await reader.one(ONE_SQL, number)
    if row is None:
        return None
    *stored, capi, states, match, revision, body = row
    credited = stored[6]
    return Conversion(
        *stored,
        event=_decode_event(body),
        match=_decode_match(match),
        credited=await find_click(reader, credited) if credited is not None else None,
        deliveries=await _deliveries(reader, number),
        capi=combined(capi, states),
        revision=revision,
    )


async def find_click(reader: Reader, number: int) -> Click | None:
    """One click; None when there is no such row (any more)."""
    row = await reader.one(CLICK_SQL, number)
    return Click(_decode_click(row[6]), *row[:6]) if row else None


async def _deliveries(reader: Reader, conversion: int) -> list[Delivery]:
    out = []
    for row in await reader.rows(DELIVERY_SQL, conversion):
        tries = [Attempt(*attempt) for attempt in await reader.rows(ATTEMPT_SQL, row[0])]
        out.append(Delivery(tries, *row))
    return out
