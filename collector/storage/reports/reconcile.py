"""Did every order arrive, and what became of it? The shop's own list beside what Meta was sent, by day and pixel.

    orders = sent + held + ignored + waiting + failed + missing      exactly, per store, pixel, day and currency (C1)

A day is the shop's own (`timezone`). Rows are summed by quarters of an hour, which every zone's days are made of, so
another zone needs nothing to be counted anew.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Final, Literal
from zoneinfo import ZoneInfo

from msgspec import Struct

from collector.config import Config, StoreConfig
from collector.core.shops.counted import FILE, Class, Line, class_of, day_of, share
from collector.storage.reports.reader import NoSchema, Reader

By = Literal["day", "reason", "channel"]
_QUARTER_MS: Final = 900_000
# The state of this pixel's own event; of an order that made none, the order's.
_SUMS: Final = """
SELECT s.ts / 900000, s.currency, s.channel, coalesce(o.reason, s.reason, ''), s.seen & 4,
       CASE WHEN s.conversion IS NULL THEN NULL ELSE coalesce(o.state, c.capi) END, s.conversion IS NULL,
       s.reason IS NOT NULL, count(*)
  FROM shop_order s LEFT JOIN conversion c ON c.id = s.conversion
  LEFT JOIN outbox o ON o.conversion = s.conversion AND o.pixel = (SELECT id FROM pixel WHERE name = ?)
 WHERE s.store = ? AND s.ts >= ? AND s.ts < ? GROUP BY 1, 2, 3, 4, 5, 6, 7, 8"""
_ORDERS: Final = """
SELECT s.called, s.ts, s.status, s.value, s.currency, coalesce(o.reason, s.reason, ''), s.conversion,
       CASE WHEN s.conversion IS NULL THEN NULL ELSE coalesce(o.state, c.capi) END, s.reason IS NOT NULL
  FROM shop_order s LEFT JOIN conversion c ON c.id = s.conversion
  LEFT JOIN outbox o ON o.conversion = s.conversion AND o.pixel = (SELECT id FROM pixel WHERE name = ?)
 WHERE s.store = ? AND s.ts >= ? AND s.ts < ? ORDER BY s.ts, s.name LIMIT ?"""


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


class _Sum(Struct):
    line: Line
    of_file: int = 0


async def sums(
    reader: Reader, config: Config, since: int, until: int, *, store: str | None = None, by: By = "day"
) -> list[Line]:
    """The sums of every store with orders of its shop's own telling, from `since` to `until` (ms)."""
    try:
        numbers: dict[str, int] = dict(await reader.rows("SELECT name, id FROM store"))
        found: list[Line] = []
        for one in config.store:
            if one.id in numbers and store in (None, one.id):
                found += await _of_store(reader, one, numbers[one.id], since, until, by)
        return found
    except NoSchema:
        return []


async def _of_store(reader: Reader, store: StoreConfig, number: int, since: int, until: int, by: By) -> list[Line]:
    zone = ZoneInfo(store.timezone)
    lines: dict[tuple[str, str, str], _Sum] = {}
    for pixel in [p.id for p in store.pixel] or [""]:
        for row in await reader.rows(_SUMS, pixel, number, since, until):
            quarter, currency, channel, reason, of_file, state, _, has_reason, count = row
            day = day_of(quarter * _QUARTER_MS, zone)
            group = class_of(state, bool(has_reason))
            word = {"day": day, "reason": f"{group}: {reason}" if reason else group, "channel": channel or "-"}[by]
            key = (pixel, word, currency)
            one = lines.setdefault(key, _Sum(Line(store=store.id, pixel=pixel, day=word, currency=currency)))
            one.line.orders += count
            setattr(one.line, group, getattr(one.line, group) + count)
            one.of_file += count if of_file == FILE else 0
    pulled = await reader.one("SELECT since, watermark FROM shop_pull WHERE store = ?", store.id)
    for one in lines.values():
        _finish(one, zone, pulled if by == "day" else None)
    return [lines[key].line for key in sorted(lines)]


def _finish(one: _Sum, zone: ZoneInfo, pulled: tuple[int, int] | None) -> None:
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
    reader: Reader, store: StoreConfig, pixel: str, day: str, limit: int = 500
) -> list[ShopOrderLine]:
    """The orders of one of the shop's days, each with its class and why: what a click on a day's bar shows."""
    row = await reader.one("SELECT id FROM store WHERE name = ?", store.id)
    zone = ZoneInfo(store.timezone)
    begin = _begin(day, zone)
    if row is None or begin is None:
        return []
    found = await reader.rows(_ORDERS, pixel, row[0], begin, begin + 25 * 3_600_000, limit)
    lines = []
    for called, ts, status, value, currency, reason, conversion, state, has_reason in found:
        if day_of(ts, zone) == day:
            group = class_of(state, bool(has_reason))
            amount = Decimal(value) if value is not None else None
            lines.append(ShopOrderLine(called, ts, status, amount, currency, group, reason, conversion))
    return lines


async def unknown_to_the_shop(reader: Reader, number: int, since: int, until: int) -> int:
    """Purchases of a store, told by a server or a page that is believed, that no order of the shop matches (C3)."""
    first = await reader.one("SELECT min(id) FROM conversion WHERE received >= ?", since)
    sql = """
SELECT count(*) FROM conversion c WHERE c.id >= ? AND c.store = ? AND c.event_type = 'Purchase' AND c.ts >= ?
   AND c.ts < ? AND c.flags & 128 = 0 AND NOT EXISTS (SELECT 1 FROM shop_order s WHERE s.conversion = c.id)"""
    row = await reader.one(sql, (first and first[0]) or 0, number, since, until)
    return row[0] if row else 0
