"""Why was a conversion attributed, or not, and what became of it: single conversions and the last ones."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct

from collector.core.events import StoredClick, StoredEvent
from collector.core.flags import TEST
from collector.core.landing import campaign_of
from collector.core.matching.shapes import Match
from collector.storage.reports.delivery import STATES_SQL, combined
from collector.storage.reports.questions import ABOVE_ALL, Reading, Row, named

# The columns of Stored, in its order.
_STORED_SQL: Final = """
SELECT c.id, coalesce(s.name, ''), c.ts, c.received, c.event_type, c.flags, c.click, c.confidence, c.method"""
LAST_SQL: Final = named(
    "last conversions",
    f"""{_STORED_SQL}, c.capi, {STATES_SQL}, c.match
  FROM conversion c LEFT JOIN store s ON s.id = c.store WHERE c.id < ? AND c.store > 0 ORDER BY c.id DESC LIMIT ?""",
)
ONE_SQL: Final = named(
    "conversion",
    f"""{_STORED_SQL}, c.capi, {STATES_SQL}, c.match, c.revision,
       c.ip_k IS NOT NULL, c.ua_k IS NOT NULL, c.body
  FROM conversion c LEFT JOIN store s ON s.id = c.store WHERE c.id = ? AND c.store > 0""",
)
CLICK_SQL: Final = named(
    "click",
    """
SELECT k.id, coalesce(s.name, ''), k.ts, k.last_ts, k.received, k.flags, k.body
  FROM click k LEFT JOIN store s ON s.id = k.store WHERE k.id = ? AND k.store > 0""",
)
DELIVERY_SQL: Final = named(
    "deliveries of conversion",
    """
SELECT o.id, coalesce(p.name, ''), o.state, o.created, o.due, o.settled, o.attempts, o.doubts, o.doubt_at, o.reason
  FROM outbox o LEFT JOIN pixel p ON p.id = o.pixel WHERE o.conversion = ? ORDER BY o.id""",
)
ATTEMPT_SQL: Final = named(
    "attempts of delivery",
    """
SELECT r.id, r.at, r.events, r.outcome, r.http_status, r.code, r.subcode, r.trace_id, r.message, r.took_ms
  FROM request r
 WHERE r.id IN (SELECT request FROM attempt WHERE outbox = ?1 UNION SELECT request FROM outbox WHERE id = ?1)
 ORDER BY r.id""",
)

_STEPS_PAGE: Final = 200
_STEPS_MOST: Final = 2_000  # that are looked through for one browser's own
# By the click that they were matched with: the index holds row numbers in order, so the newest are read first.
STEPS_SQL: Final = named(
    "steps to order",
    f"""
SELECT c.id, c.ts, c.event_type, c.body FROM conversion c
 WHERE c.click = ? AND c.ts BETWEEN ? AND ? AND c.id <> ? AND c.event_type <> 'Purchase' AND c.flags & 16 = ?
   AND c.store > 0 AND c.id < ?
 ORDER BY c.id DESC LIMIT {_STEPS_PAGE}""",
)

_decode_click = msgspec.msgpack.Decoder(StoredClick).decode
_decode_event = msgspec.msgpack.Decoder(StoredEvent).decode
_decode_match = msgspec.msgpack.Decoder(Match).decode


class _Reason(Struct):
    reason: str | None = None


_decode_reason = msgspec.msgpack.Decoder(_Reason).decode


class _Stepped(Struct):
    """The fields of a stored event that say whose it is, and where it happened."""

    visitor_id: str | None = None
    fbp: str | None = None
    event_source_url: str | None = None


_decode_step = msgspec.msgpack.Decoder(_Stepped).decode


class Stepped(Struct, frozen=True):
    """An event on the way to an order."""

    id: int
    ts: int
    event_type: str
    page: str


class Way(Struct, frozen=True):
    """The newest steps of the way to an order, oldest first; `whole`: there are no others."""

    steps: list[Stepped]
    whole: bool = True


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
    has_address: bool
    has_agent: bool


async def last(reader: Reading, *, before: int | None = None, limit: int = 50) -> list[Line]:
    """The last conversions, newest first; `before` is a conversion's row number."""
    rows = await reader.rows(LAST_SQL, before or ABOVE_ALL, limit)
    return [
        Line(*stored, reason=_decode_reason(match).reason, capi=combined(capi, states))
        for *stored, capi, states, match in rows
    ]


async def find(reader: Reading, number: int) -> Conversion | None:
    """One conversion with everything about it; None when there is no such row."""
    row = await reader.one(ONE_SQL, number)
    if row is None:
        return None
    *stored, capi, states, match, revision, has_address, has_agent, body = row
    credited = stored[6]
    return Conversion(
        *stored,
        event=_decode_event(body),
        match=_decode_match(match),
        credited=await find_click(reader, credited) if credited is not None else None,
        deliveries=await _deliveries(reader, number),
        capi=combined(capi, states),
        revision=revision,
        has_address=bool(has_address),
        has_agent=bool(has_agent),
    )


async def way_to(reader: Reading, order: Conversion) -> Way:
    """What the same visitor did between the credited click and the order: pages, the cart, the checkout.

    A shared link is many visitors' click; where order and event both name a browser, they name the same one.
    """
    if order.click is None:
        return Way([])
    found = list[Stepped]()
    among = (order.click, order.match.click_ts or 0, order.ts, order.id, order.flags & TEST)
    rows, looked, before = list[Row](), 0, ABOVE_ALL
    while len(found) < _STEPS_PAGE and looked < _STEPS_MOST:
        rows = await reader.rows(STEPS_SQL, *among, before)
        found += [step for row in rows if (step := _step_of(row, order.event)) is not None]
        if len(rows) < _STEPS_PAGE:
            break
        looked, before = looked + len(rows), rows[-1][0]
    return Way(sorted(found, key=lambda step: step.ts), len(rows) < _STEPS_PAGE)


def _step_of(row: Row, order: StoredEvent) -> Stepped | None:
    """A row as a step of the order's own browser; None of another's."""
    number, ts, kind, body = row
    event = _decode_step(body)
    if not _same_browser(event, order):
        return None
    return Stepped(number, ts, kind, campaign_of(event.event_source_url or "").page)


def _same_browser(one: _Stepped, other: StoredEvent) -> bool:
    pairs = [(a, b) for a, b in ((one.visitor_id, other.visitor_id), (one.fbp, other.fbp)) if a and b]
    return not pairs or any(a == b for a, b in pairs)


async def find_click(reader: Reading, number: int) -> Click | None:
    """One click; None when there is no such row (any more)."""
    row = await reader.one(CLICK_SQL, number)
    return Click(_decode_click(row[6]), *row[:6]) if row else None


async def _deliveries(reader: Reading, conversion: int) -> list[Delivery]:
    out = []
    for row in await reader.rows(DELIVERY_SQL, conversion):
        tries = [Attempt(*attempt) for attempt in await reader.rows(ATTEMPT_SQL, row[0])]
        out.append(Delivery(tries, *row))
    return out
