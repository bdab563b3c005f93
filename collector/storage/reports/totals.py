"""How much of what happened when: running totals, folded from the append-only tables in slices of row numbers.

Counting ten million rows for each page would be slow, and a counter written with each event would cost every
acknowledgement. So each slice of row numbers is read once and remembered; slices that may still change (a late click
re-opens a conversion for 96 h, delivery settles it) are read again when they are stale. Memory follows the number of
slices and labels, never the number of rows.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, Generic, NamedTuple, TypeVar

import msgspec

from collector.core import flags
from collector.core.events import StoredClick
from collector.storage.reports.landing import campaign_of
from collector.storage.reports.reader import Reader, Row

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
SLICE: Final = 4096
HORIZON_DAYS: Final = 31  # totals reach back this far
_OPEN_FOR_MS: Final = 100 * HOUR_MS  # matching re-opens for 96 h; a little over
_STALE_OPEN_SECONDS: Final = 30.0
_STALE_SEALED_SECONDS: Final = 3600.0  # erasure and retention reach old rows too
_LABELS_PER_SLICE: Final = 256  # labels are the callers' words: a flood of them ends as "(other)"
OTHER: Final = "(other)"
MISSING: Final = "(none)"


class ClickKey(NamedTuple):
    hour: int
    store: int
    kept_apart: bool  # bots, prefetches, refused consent, tests


class CampaignKey(NamedTuple):
    day: int
    store: int
    source: str
    campaign: str

    def other(self) -> CampaignKey:
        """The key of everything that found no room."""
        return self._replace(source=OTHER, campaign=OTHER)


class ConversionKey(NamedTuple):
    hour: int
    store: int
    event_type: str
    currency: str  # empty: no value


@dataclass(slots=True)
class Sums:
    """What conversions with one key add up to; money only ever within one currency."""

    n: int = 0
    attributed: int = 0
    value: Decimal = Decimal(0)
    attributed_value: Decimal = Decimal(0)
    reversed: int = 0  # refunded or cancelled: counted, without their value

    def add(self, other: Sums) -> None:
        self.n += other.n
        self.attributed += other.attributed
        self.value += other.value
        self.attributed_value += other.attributed_value
        self.reversed += other.reversed


@dataclass(slots=True)
class ClickSlice:
    newest: int = 0
    hours: Counter[ClickKey] = field(default_factory=Counter)
    campaigns: Counter[CampaignKey] = field(default_factory=Counter)


@dataclass(slots=True)
class ConversionSlice:
    newest: int = 0
    hours: dict[ConversionKey, Sums] = field(default_factory=lambda: defaultdict(Sums))
    campaigns: dict[CampaignKey, dict[str, Sums]] = field(default_factory=dict)
    capi: Counter[tuple[int, int, int]] = field(default_factory=Counter)  # day, store, capi
    signals: Counter[tuple[int, int, str, str]] = field(default_factory=Counter)  # day, store, event type, key


class _Money(msgspec.Struct):
    """The fields of a stored event that are counted."""

    value: Decimal | None = None
    currency: str | None = None
    order_status: str | None = None
    user_data: dict[str, list[str]] = {}
    fbc: str | None = None
    fbp: str | None = None


_decode_click = msgspec.msgpack.Decoder(StoredClick).decode
_decode_money = msgspec.msgpack.Decoder(_Money).decode

CLICK_SQL: Final = "SELECT id, ts, store, flags, body FROM click WHERE id >= ? AND id < ?"
CONVERSION_SQL: Final = """
SELECT c.id, c.ts, c.store, c.event_type, c.flags, c.click, c.capi, c.ip_k IS NOT NULL, c.ua_k IS NOT NULL, c.body,
       k.body
  FROM conversion c LEFT JOIN click k ON k.id = c.click WHERE c.id >= ? AND c.id < ?"""


def fold_clicks(rows: Iterable[Row]) -> ClickSlice:
    """One slice of clicks, counted."""
    out = ClickSlice()
    for _, ts, store, marks, body in rows:
        apart = bool(marks & flags.INELIGIBLE)
        out.newest = max(out.newest, ts)
        out.hours[ClickKey(ts // HOUR_MS, store, apart)] += 1
        if not apart:
            _count_label(out.campaigns, ts // DAY_MS, store, body)
    return out


def _count_label(into: Counter[CampaignKey], day: int, store: int, body: bytes) -> None:
    key = _label(day, store, body)
    into[key if key in into or len(into) < _LABELS_PER_SLICE else key.other()] += 1


def _label(day: int, store: int, body: bytes | None) -> CampaignKey:
    place = campaign_of(_decode_click(body).landing_page) if body else None
    return CampaignKey(
        day, store, (place.source if place else "") or MISSING, (place.campaign if place else "") or MISSING
    )


def fold_conversions(rows: Iterable[Row]) -> ConversionSlice:
    """One slice of conversions, counted; tests and bots are left out."""
    out = ConversionSlice()
    for _, ts, store, event_type, marks, click, capi, has_ip, has_ua, body, click_body in rows:
        out.newest = max(out.newest, ts)
        if marks & (flags.TEST | flags.BOT):
            continue
        event = _decode_money(body)
        sums = _sums(event, click is not None)
        out.hours[ConversionKey(ts // HOUR_MS, store, event_type, event.currency or "")].add(sums)
        out.capi[ts // DAY_MS, store, capi] += 1
        for name in _signals(event, has_ip, has_ua):
            out.signals[ts // DAY_MS, store, event_type, name] += 1
        if click is not None:
            key = _label(ts // DAY_MS, store, click_body)
            known = key in out.campaigns or len(out.campaigns) < _LABELS_PER_SLICE
            by_currency = out.campaigns.setdefault(key if known else key.other(), defaultdict(Sums))
            by_currency[event.currency or ""].add(sums)
    return out


def _sums(event: _Money, attributed: bool) -> Sums:
    if event.order_status in ("refunded", "cancelled"):
        return Sums(n=1, attributed=int(attributed), reversed=1)
    value = event.value or Decimal(0)
    return Sums(1, int(attributed), value, value if attributed else Decimal(0))


def _signals(event: _Money, has_ip: int, has_ua: int) -> Iterator[str]:
    yield "events"
    yield from event.user_data
    for name, present in (
        ("fbc", event.fbc),
        ("fbp", event.fbp),
        ("client_ip_address", has_ip),
        ("client_user_agent", has_ua),
    ):
        if present:
            yield name


S = TypeVar("S", ClickSlice, ConversionSlice)


@dataclass(slots=True)
class _Read(Generic[S]):
    at: float
    up_to: int  # the table's newest row when it was read
    slice: S


class _Table(Generic[S]):
    """The slices of one table, newest first in the reading."""

    def __init__(self, table: str, sql: str, fold: Callable[[Iterable[Row]], S]) -> None:
        self.table, self.sql = table, sql
        self.fold: Callable[[Iterable[Row]], S] = fold
        self.slices: dict[int, _Read[S]] = {}
        self.newest_id = 0

    async def due(self, reader: Reader, now: int) -> list[int]:
        """The slices to read next: the newest always, unread ones, then stale ones."""
        row = await reader.one(f"SELECT max(id), min(id) FROM {self.table}")
        if row is None or row[0] is None:
            self.slices.clear()
            return []
        self.newest_id = row[0]
        first = await first_received(reader, self.table, row[1], row[0], now - HORIZON_DAYS * DAY_MS)
        newest, oldest = row[0] // SLICE, first // SLICE
        for gone in [n for n in self.slices if not oldest <= n <= newest]:
            del self.slices[gone]
        return [n for n in range(newest, oldest - 1, -1) if self._is_stale(n, now)]

    def _is_stale(self, number: int, now: int) -> bool:
        read = self.slices.get(number)
        if read is None or read.up_to < min(self.newest_id, (number + 1) * SLICE - 1):
            return True
        sealed = read.slice.newest < now - _OPEN_FOR_MS
        return time.monotonic() - read.at > (_STALE_SEALED_SECONDS if sealed else _STALE_OPEN_SECONDS)

    async def read(self, reader: Reader, number: int) -> None:
        at, up_to = time.monotonic(), self.newest_id
        rows = await reader.rows(self.sql, number * SLICE, (number + 1) * SLICE)
        self.slices[number] = _Read(at, up_to, self.fold(rows))


async def first_received(reader: Reader, table: str, low: int, high: int, since: int) -> int:
    """The first row received at or after `since`: rows arrive in order, so a bisection finds it without an index."""
    sql = f"SELECT id, received FROM {table} WHERE id >= ? ORDER BY id LIMIT 1"
    while low < high:
        middle = (low + high) // 2
        row = await reader.one(sql, middle)
        if row is not None and row[1] < since:
            low = row[0] + 1
        else:
            high = middle
    return low


class Totals:
    """Running totals of clicks and conversions. `refresh` first; then the questions are answered from memory."""

    def __init__(self) -> None:
        self.clicks = _Table("click", CLICK_SQL, fold_clicks)
        self.conversions = _Table("conversion", CONVERSION_SQL, fold_conversions)
        self.complete = False

    async def refresh(self, reader: Reader, now: int, *, budget_seconds: float) -> bool:
        """Bring the totals up to date, newest first, for at most `budget_seconds`; True when nothing is left."""
        until = time.monotonic() + budget_seconds
        pending = [(self.conversions, n) for n in await self.conversions.due(reader, now)]
        clicks = [(self.clicks, n) for n in await self.clicks.due(reader, now)]
        for table, number in _interleaved(pending, clicks):
            if time.monotonic() > until:
                return False
            await table.read(reader, number)
        self.complete = True
        return True

    def click_hours(self, since: int) -> Counter[ClickKey]:
        """Clicks by hour and store from `since` (ms) on."""
        first = since // HOUR_MS
        out: Counter[ClickKey] = Counter()
        for read in self.clicks.slices.values():
            if read.slice.newest >= since:
                for key, n in read.slice.hours.items():
                    if key.hour >= first:
                        out[key] += n
        return out

    def conversion_hours(self, since: int) -> dict[ConversionKey, Sums]:
        """Conversions by hour, store, event type and currency from `since` (ms) on."""
        first = since // HOUR_MS
        out: dict[ConversionKey, Sums] = defaultdict(Sums)
        for read in self.conversions.slices.values():
            if read.slice.newest >= since:
                for key, sums in read.slice.hours.items():
                    if key.hour >= first:
                        out[key].add(sums)
        return out

    def signals(self, since: int) -> Counter[tuple[int, int, str, str]]:
        """Events that carried each key, by day, store and event type."""
        out: Counter[tuple[int, int, str, str]] = Counter()
        for read in self.conversions.slices.values():
            for key, n in read.slice.signals.items():
                if key[0] >= since // DAY_MS:
                    out[key] += n
        return out

    def campaigns(self, since: int) -> tuple[Counter[CampaignKey], dict[CampaignKey, dict[str, Sums]]]:
        """Clicks, and attributed conversions by currency, for each campaign and day."""
        first = since // DAY_MS
        clicks: Counter[CampaignKey] = Counter()
        for read in self.clicks.slices.values():
            for key, n in read.slice.campaigns.items():
                if key.day >= first:
                    clicks[key] += n
        orders: dict[CampaignKey, dict[str, Sums]] = defaultdict(lambda: defaultdict(Sums))
        for other in self.conversions.slices.values():
            for key, by_currency in other.slice.campaigns.items():
                if key.day >= first:
                    for currency, sums in by_currency.items():
                        orders[key][currency].add(sums)
        return clicks, orders


def _interleaved(first: list[Any], second: list[Any]) -> Iterator[Any]:
    """One of each in turn, so that neither table waits for the other's history."""
    for i in range(max(len(first), len(second))):
        yield from first[i : i + 1]
        yield from second[i : i + 1]
