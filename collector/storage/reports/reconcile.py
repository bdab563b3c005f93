"""Did every order arrive, and what became of it? The shop's own list beside what Meta was sent, by day and pixel.

    orders = sent + held + ignored + waiting + failed + missing      exactly, per store, pixel, day and currency (C1)

A day is the shop's own (`timezone`). Rows are summed in SQLite by these days and by what is asked for, no finer: a
season of 75,000 orders is then 450 rows.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Final, Literal
from zoneinfo import ZoneInfo

from msgspec import Struct

from collector.config import Config, StoreConfig
from collector.core.capi.states import CapiState
from collector.core.days import Days, begin
from collector.core.days import day_of as date_of
from collector.core.shops.counted import FILE, Class, Line, class_of, day_of, share
from collector.errors import NoSchema
from collector.storage.reports.questions import STORE, Reading, Row, named

By = Literal["day", "reason", "channel"]
# The state of this pixel's own event; of an order that made none, the order's. Day, teller and state are one number, by
# which SQLite sorts sooner.
_NO_EVENT: Final = 255
_SUMS: Final = f"""
WITH step (begin, first, until) AS (VALUES {{steps}})
SELECT (step.begin << 12) + ((s.seen & {FILE}) << 9) + ((s.reason IS NOT NULL) << 8)
       + CASE WHEN s.conversion IS NULL THEN {_NO_EVENT} ELSE coalesce(o.state, c.capi, {_NO_EVENT}) END,
       s.currency, {{word}}, count(*), sum(coalesce(o.state, c.capi) = 10 AND c.confidence IS NOT NULL)
  FROM step CROSS JOIN shop_order s LEFT JOIN conversion c ON c.id = s.conversion
  LEFT JOIN outbox o ON o.conversion = s.conversion AND o.pixel = (SELECT id FROM pixel WHERE name = ?)
 WHERE s.store = ? AND s.ts >= step.first AND s.ts < step.until GROUP BY 1, 2, 3"""
_WORDS: Final[dict[By, str]] = {
    "day": "''",
    "reason": "coalesce(o.reason, s.reason, '')",
    "channel": "coalesce(s.channel, '')",
}
# Of those that nobody told us of, the newest.
_MISSING: Final = named(
    "orders missing",
    """
SELECT s.called, s.ts, s.status, s.value, s.currency, '', NULL, NULL, 0
  FROM shop_order s WHERE s.store = ? AND s.ts >= ? AND s.ts < ? AND s.conversion IS NULL AND s.reason IS NULL
 ORDER BY s.ts DESC, s.name LIMIT ?""",
)
# What Meta has stands last, so that no length of a list cuts off what it has not.
_ORDERS: Final = named(
    "orders of a shop's day",
    f"""
SELECT s.called, s.ts, s.status, s.value, s.currency, coalesce(o.reason, s.reason, ''), s.conversion,
       CASE WHEN s.conversion IS NULL THEN NULL ELSE coalesce(o.state, c.capi) END, s.reason IS NOT NULL
  FROM shop_order s LEFT JOIN conversion c ON c.id = s.conversion
  LEFT JOIN outbox o ON o.conversion = s.conversion AND o.pixel = (SELECT id FROM pixel WHERE name = ?)
 WHERE s.store = ? AND s.ts >= ? AND s.ts < ?
 ORDER BY s.conversion IS NOT NULL AND coalesce(o.state, c.capi) = {int(CapiState.SENT)}, s.ts, s.name LIMIT ?""",
)
_COUNT: Final = named("count of a shop's day", "SELECT count(*) FROM shop_order WHERE store = ? AND ts >= ? AND ts < ?")
_NUMBERS: Final = named("stores by number", "SELECT id, name FROM store")
_PULL: Final = named("pull of a shop", "SELECT since, watermark FROM shop_pull WHERE store = ?")
_FIRST: Final = named("first received since", "SELECT min(id) FROM conversion WHERE received >= ?")
_UNKNOWN: Final = named(
    "purchases unknown to a shop",
    """
SELECT count(*) FROM conversion c WHERE c.id >= ? AND c.store = ? AND c.event_type = 'Purchase' AND c.ts >= ?
   AND c.ts < ? AND c.flags & 128 = 0 AND NOT EXISTS (SELECT 1 FROM shop_order s WHERE s.conversion = c.id)""",
)


class ShopOrderLine(Struct, frozen=True, rename="camel"):
    """One order of the shop, and what became of its event for one pixel."""

    order: str
    at: int
    status: str | None
    value: Decimal | None
    currency: str
    group: Class
    reason: str
    conversion: int | None  # its row


class Counted(Struct):
    """A line, and what it does not tell: how many are a file's alone, and how many that were sent have a click."""

    line: Line
    of_file: int = 0
    attributed: int = 0


async def sums(
    reader: Reading, config: Config, since: int, until: int, *, store: str | None = None, by: By = "day"
) -> list[Line]:
    """The sums of every store with orders of its shop's own telling, from `since` to `until` (ms)."""
    return [one.line for one in await counted(reader, config, since, until, store=store, by=by)]


async def counted(
    reader: Reading, config: Config, since: int, until: int, *, store: str | None = None, by: By = "day"
) -> list[Counted]:
    """The same, with how many of those that were sent are attributed to a click."""
    try:
        numbers: dict[str, int] = {name: number for number, name in await reader.rows(_NUMBERS)}
        found: list[Counted] = []
        for one in config.store:
            if one.id in numbers and store in (None, one.id):
                found += await _of_store(reader, one, numbers[one.id], since, until, by)
        return found
    except NoSchema:
        return []


async def _of_store(reader: Reading, store: StoreConfig, number: int, since: int, until: int, by: By) -> list[Counted]:
    zone = ZoneInfo(store.timezone)
    steps = _steps(zone, since, until)
    values = ",".join(map(str, zip(*steps, strict=True)))
    sql = named(f"shop's orders by {by}", _SUMS.format(steps=values, word=_WORDS[by]), *steps)
    lines: dict[tuple[str, str, str], Counted] = {}
    for pixel in [p.id for p in store.pixel] or [""] if until > since else []:
        for packed, currency, said, count, attributed in await reader.rows(sql, pixel, number):
            state = packed & 255
            group = class_of(None if state == _NO_EVENT else state, bool(packed & 256))
            word = {
                "day": day_of(packed >> 12, zone),
                "reason": f"{group}: {said}" if said else group,
                "channel": said or "-",
            }[by]
            key = (pixel, word, currency)
            one = lines.setdefault(key, Counted(Line(store=store.id, pixel=pixel, day=word, currency=currency)))
            one.line.orders += count
            one.attributed += attributed or 0
            setattr(one.line, group, getattr(one.line, group) + count)
            one.of_file += count if packed >> 9 & FILE else 0
    pulled = await reader.one(_PULL, store.id)
    for one in lines.values():
        _finish(one, zone, pulled if by == "day" else None)
    return [lines[key] for key in sorted(lines)]


def _steps(zone: ZoneInfo, since: int, until: int) -> tuple[list[int], list[int], list[int]]:
    """The days of a zone that a span (ms) touches: when each begins, and the part of it that is asked for."""
    begins = [begin(day, zone) for day in Days(date_of(since, zone), date_of(until - 1, zone)).all()]
    ends = [*begins[1:], until]
    return begins, [max(at, since) for at in begins], [min(end, until) for end in ends]


def _finish(one: Counted, zone: ZoneInfo, pulled: tuple[int, int] | None) -> None:
    """The shares, and what the day's count rests on (C2)."""
    line = one.line
    line.accuracy = share(line.sent + line.held + line.ignored, line.orders)
    line.delivered = share(line.sent, line.orders - line.ignored)
    line.basis = "webhooks only (lower bound)"
    if one.of_file == line.orders:
        line.basis = "file"
    elif pulled is not None and (begin := _begin(line.day, zone)) is not None:
        since, until = pulled
        if since <= begin < until:
            at = datetime.fromtimestamp(until / 1000, zone)
            line.basis = "pull" if at.strftime("%Y-%m-%d") > line.day else f"pull, complete to {at:%H:%M}"


def _begin(day: str, zone: ZoneInfo) -> int | None:
    try:
        return int(datetime.fromisoformat(day).replace(tzinfo=zone).timestamp() * 1000)
    except (ValueError, OverflowError):
        return None


async def orders_of_day(
    reader: Reading, store: StoreConfig, pixel: str, day: str, limit: int = 500
) -> list[ShopOrderLine]:
    """The orders of one of the shop's days, those first that Meta does not have, each with its class and why."""
    part = await _part_of_day(reader, store, day)
    return [_order_line(row) for row in await reader.rows(_ORDERS, pixel, *part, limit)] if part else []


async def count_of_day(reader: Reading, store: StoreConfig, day: str) -> int:
    """How many orders the shop has told of that day."""
    part = await _part_of_day(reader, store, day)
    row = await reader.one(_COUNT, *part) if part else None
    return row[0] if row else 0


async def _part_of_day(reader: Reading, store: StoreConfig, day: str) -> tuple[int, int, int] | None:
    """The store's number, and when its day begins and ends (ms); None where there is no such store or day."""
    row, zone = await reader.one(STORE, store.id), ZoneInfo(store.timezone)
    try:
        first = date.fromisoformat(day)
        return (row[0], begin(first, zone), begin(first + timedelta(days=1), zone)) if row else None
    except (ValueError, OverflowError):
        return None


async def missing(reader: Reading, store: StoreConfig, since: int, until: int, limit: int = 500) -> list[ShopOrderLine]:
    """The newest orders of a shop between two moments (ms) that nobody has told us of."""
    row = await reader.one(STORE, store.id)
    return [_order_line(one) for one in await reader.rows(_MISSING, row[0], since, until, limit)] if row else []


def _order_line(row: Row) -> ShopOrderLine:
    called, ts, status, value, currency, reason, conversion, state, has_reason = row
    amount = Decimal(value) if value is not None else None
    return ShopOrderLine(called, ts, status, amount, currency, class_of(state, bool(has_reason)), reason, conversion)


async def unknown_to_the_shop(reader: Reading, number: int, since: int, until: int) -> int:
    """Purchases of a store, told by a server or a page that is believed, that no order of the shop matches (C3)."""
    first = await reader.one(_FIRST, since)
    row = await reader.one(_UNKNOWN, (first and first[0]) or 0, number, since, until)
    return row[0] if row else 0
