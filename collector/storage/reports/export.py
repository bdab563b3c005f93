"""Everything that is kept, one object a line, in the API's own field names: clicks, conversions, deliveries.

Keyset pages in short transactions beside a running keeper, up to the newest row at the start; memory holds one page.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from decimal import Decimal
from typing import Any, Final, Literal, NamedTuple

import msgspec

from collector.core import flags, times
from collector.core.capi.states import CapiState, name_of
from collector.core.events import StoredClick, StoredEvent
from collector.core.ids import PublicIds
from collector.core.landing import campaign_of
from collector.core.matching.shapes import Match
from collector.storage.ground import damage
from collector.storage.reports.cells import record
from collector.storage.reports.delivery import STATES_SQL, combined
from collector.storage.reports.questions import Reading, Row, named

What = Literal["clicks", "conversions", "deliveries"]
Format = Literal["ndjson", "csv"]
Item = dict[str, Any]
PAGE: Final = 1000

CLICKS_SQL: Final = named(
    "exported clicks",
    """
SELECT k.id, s.name, k.ts, k.last_ts, k.received, k.flags, k.body, n.ip, n.user_agent
  FROM click k LEFT JOIN store s ON s.id = k.store LEFT JOIN click_network n ON n.id = k.id
 WHERE k.id > ? AND k.id <= ? AND k.store > 0 ORDER BY k.id LIMIT ?""",
)
CONVERSIONS_SQL: Final = named(
    "exported conversions",
    f"""
SELECT c.id, s.name, c.ts, c.received, c.event_type, c.flags, c.click, c.confidence, c.method, c.revision, c.capi,
       {STATES_SQL}, c.body, c.match, k.ts, k.body
  FROM conversion c LEFT JOIN store s ON s.id = c.store LEFT JOIN click k ON k.id = c.click
 WHERE c.id > ? AND c.id <= ? AND c.store > 0 ORDER BY c.id LIMIT ?""",
)
DELIVERIES_SQL: Final = named(
    "exported deliveries",
    """
SELECT o.id, o.conversion, s.name, c.event_type, c.body, p.name, o.state, o.created, o.settled, o.attempts, o.doubts,
       o.doubt_at, o.reason, r.at, r.outcome, r.http_status, r.code, r.subcode, r.trace_id, r.message
  FROM outbox o LEFT JOIN conversion c ON c.id = o.conversion LEFT JOIN store s ON s.id = c.store
  LEFT JOIN pixel p ON p.id = o.pixel LEFT JOIN request r ON r.id = o.request
 WHERE o.id > ? AND o.id <= ? AND o.conversion > 0 ORDER BY o.id LIMIT ?""",
)

_decode_click = msgspec.msgpack.Decoder(StoredClick).decode
_decode_event = msgspec.msgpack.Decoder(StoredEvent).decode
_decode_match = msgspec.msgpack.Decoder(Match).decode
_encode = msgspec.json.Encoder(decimal_format="number").encode


class _EventId(msgspec.Struct):
    """The one field of a stored event that a delivery names."""

    event_id: str


_decode_event_id = msgspec.msgpack.Decoder(_EventId).decode


class _Table(NamedTuple):
    name: str
    sql: str
    item: Callable[[PublicIds, Row], Item]
    columns: tuple[str, ...]  # of the CSV; a dot reaches into an object


def _time(ms: int | None) -> str | None:
    return None if ms is None else times.text(ms)


def _why_apart(marks: int, bot: str | None) -> str | None:
    """Why a click is kept but not used, in the words of the API's `reason`."""
    if bot or marks & flags.BOT:
        return bot or "bot"
    if marks & (flags.DENIED | flags.PENDING | flags.WITHDRAWN):
        return "consent"
    if marks & flags.PREFETCH:
        return "prefetch"
    return "test" if marks & flags.TEST else None


def click_item(ids: PublicIds, row: Row) -> Item:
    """A click as the API names its fields; the address and user agent only while they are kept."""
    number, store, ts, last_ts, received, marks, body, ip, user_agent = row
    click = _decode_click(body)
    place = campaign_of(click.landing_page)
    return {
        "clickId": ids.public("click", number),
        "storeId": store,
        "fbclid": click.fbclid,
        "landingPage": click.landing_page,
        "referrer": click.referrer,
        "timestamp": _time(ts),
        "lastSeen": _time(last_ts),
        "received": _time(received),
        "tracked": not marks & flags.INELIGIBLE,
        "reason": _why_apart(marks, click.bot),
        "visitorId": click.visitor_id,
        "fbp": click.fbp,
        "fbc": click.fbc,
        "eventId": click.event_id,
        "ipAddress": ip,
        "userAgent": user_agent,
        "consent": {"marketing": click.marketing, "ldu": click.ldu},
        "source": place.source or None,
        "campaign": place.campaign or None,
        "adset": place.adset or None,
        "ad": place.ad or None,
        "test": bool(marks & flags.TEST),
    }


def at_meta(event: StoredEvent, capi: int) -> Decimal | None:
    """The value that Meta has of an event in this state: nothing takes it back there."""
    if capi != CapiState.SENT:
        return None
    return event.value if event.sent_value is None else event.sent_value


def conversion_item(ids: PublicIds, row: Row) -> Item:
    """A conversion in the shape of the API's answer, with what was posted; personal data only as its kinds."""
    number, store, ts, received, event_type, marks, click, confidence, method, revision, capi, states = row[:12]
    event, match = _decode_event(row[12]), _decode_match(row[13])
    clicked, click_body = row[14], row[15]
    return {
        "conversionId": ids.public("conv", number),
        "storeId": store,
        "eventType": event_type,
        "orderId": event.order_id,
        "eventValue": event.value,
        "sentValue": at_meta(event, combined(capi, states)),
        "currency": event.currency,
        "unconfirmed": bool(marks & flags.UNCONFIRMED),
        "timestamp": _time(ts),
        "received": _time(received),
        "eventId": event.event_id,
        "attributed": match.attributed,
        "clickId": ids.public("click", click) if click is not None else None,
        "attributedTo": {
            "clickId": ids.public("click", click) if click is not None else None,
            "fbclid": _decode_click(click_body).fbclid if click_body else event.fbclid,
            "confidenceScore": confidence,
            "method": method,
            "clickAgeSeconds": (ts - clicked) // 1000 if clicked is not None else None,
            "evidence": [{"signal": e.signal, "result": e.result, "bits": e.bits} for e in match.evidence],
        }
        if match.attributed
        else None,
        "reason": match.reason,
        "revision": revision,
        "capiStatus": name_of(combined(capi, states)),
        "orderStatus": event.order_status,
        "actionSource": event.action_source,
        "eventSourceUrl": event.event_source_url,
        "referrer": event.referrer,
        "visitorId": event.visitor_id,
        "fbc": event.fbc,
        "fbp": event.fbp,
        "consent": {"marketing": event.marketing, "ldu": event.ldu},
        "customerDataKinds": sorted(event.user_data),
        "products": event.products or None,
        "customData": event.custom_data or None,
        "test": bool(marks & flags.TEST),
    }


def delivery_item(ids: PublicIds, row: Row) -> Item:
    """An event's way to one pixel, with the last attempt's answer."""
    (_, conversion, store, event_type, body, pixel, state, created, settled, attempts, doubts, doubt_at, reason) = row[
        :13
    ]
    at, outcome, http_status, code, subcode, trace_id, message = row[13:]
    return {
        "conversionId": ids.public("conv", conversion),
        "storeId": store,
        "eventType": event_type,
        "eventId": _decode_event_id(body).event_id if body else None,
        "pixel": pixel,
        "status": name_of(state),
        "reason": reason,
        "createdAt": _time(created),
        "settledAt": _time(settled),
        "attempts": attempts,
        "doubts": doubts,
        "inDoubtSince": _time(doubt_at),
        "lastAttempt": {
            "attemptedAt": _time(at),
            "outcome": outcome,
            "httpStatus": http_status,
            "code": code,
            "subcode": subcode,
            "traceId": trace_id,
            "message": message,
        }
        if at is not None
        else None,
    }


_CLICK_COLUMNS: Final = (
    "clickId storeId fbclid landingPage referrer timestamp lastSeen received tracked reason visitorId fbp fbc eventId "
    "ipAddress userAgent consent.marketing consent.ldu source campaign adset ad test"
)
_CONVERSION_COLUMNS: Final = (
    "conversionId storeId eventType orderId eventValue currency timestamp received eventId attributed "
    "attributedTo.clickId attributedTo.fbclid attributedTo.confidenceScore attributedTo.method "
    "attributedTo.clickAgeSeconds reason revision capiStatus orderStatus actionSource eventSourceUrl referrer "
    "visitorId fbc fbp consent.marketing consent.ldu customerDataKinds products customData test"
)
_DELIVERY_COLUMNS: Final = (
    "conversionId storeId eventType eventId pixel status reason createdAt settledAt attempts doubts inDoubtSince "
    "lastAttempt.attemptedAt lastAttempt.outcome lastAttempt.httpStatus lastAttempt.code lastAttempt.subcode "
    "lastAttempt.traceId lastAttempt.message"
)
_TABLES: Final[dict[What, _Table]] = {
    "clicks": _Table("click", CLICKS_SQL, click_item, tuple(_CLICK_COLUMNS.split())),
    "conversions": _Table("conversion", CONVERSIONS_SQL, conversion_item, tuple(_CONVERSION_COLUMNS.split())),
    "deliveries": _Table("outbox", DELIVERIES_SQL, delivery_item, tuple(_DELIVERY_COLUMNS.split())),
}


_ENDS: Final = {
    one.name: named(f"ends of {one.name}", f"SELECT (SELECT min(id) FROM {one.name}), (SELECT max(id) FROM {one.name})")
    for one in _TABLES.values()
}


class Chunk(NamedTuple):
    """A page of output, and how far the export is."""

    data: bytes
    rows: int
    done: float  # 0..1


async def export(
    reader: Reading, ids: PublicIds, what: What, form: Format, *, store: str | None = None
) -> AsyncIterator[Chunk]:
    """The table as chunks of bytes; a CSV begins with its header. Rows that arrive meanwhile are not in it."""
    table = _TABLES[what]
    ends = await reader.one(_ENDS[table.name])
    if form == "csv":
        yield Chunk(record([_header(column) for column in table.columns]).encode(), 0, 0.0)
    if ends is None or ends[1] is None:
        return
    first, newest = ends
    async for rows in reader.pages(table.sql, first - 1, newest, size=PAGE):
        items = [item for row in rows if store in (None, (item := _item(reader, table, ids, row))["storeId"])]
        data = b"".join(_lines(items)) if form == "ndjson" else "".join(_records(items, table.columns)).encode()
        yield Chunk(data, len(items), (rows[-1][0] - first + 1) / (newest - first + 1))


def _item(reader: Reading, table: _Table, ids: PublicIds, row: Row) -> Item:
    """A row's object; Damaged where a value of it makes no sense, whatever Python says of that."""
    try:
        return table.item(ids, row)
    except (ValueError, TypeError, LookupError, ArithmeticError, msgspec.MsgspecError) as error:
        raise damage.of_file(
            reader.path, f"row {row[0]} of {table.name} makes no sense: {type(error).__name__}"
        ) from error


def _lines(items: Iterable[Item]) -> Iterator[bytes]:
    for item in items:
        yield _encode(item) + b"\n"


def _records(items: Iterable[Item], columns: tuple[str, ...]) -> Iterator[str]:
    ways = [column.partition(".")[::2] for column in columns]
    for item in items:
        yield record([_inner(item[outer], inner) if inner else item[outer] for outer, inner in ways])


def _header(column: str) -> str:
    """`attributedTo.clickId` is `clickId`, the name under which a conversion may be posted; consent keeps its dot."""
    outer, _, inner = column.partition(".")
    return inner if outer in ("attributedTo", "lastAttempt") else column


def _inner(value: Item | None, name: str) -> Any:
    return None if value is None else value[name]
