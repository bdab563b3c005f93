"""Which campaign, ad, page or day has earned the orders, under a credit model: the stored journeys, shared out exactly.

Amounts are shared in whole minor units by largest remainder, so the lines of a currency sum to its orders to the cent.
Orders without a click are a line of their own: nothing is left out of the sum.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Final, Literal

import msgspec
from msgspec import Struct

from collector.config import Config
from collector.core import credit, flags, statuses, times
from collector.core.days import Days
from collector.core.landing import campaign_of, labels_of
from collector.storage.reports import insights
from collector.storage.reports.folds import DAY_MS, MISSING
from collector.storage.reports.kept import Span
from collector.storage.reports.money import from_minor, to_minor
from collector.storage.reports.purchases import newest_sql
from collector.storage.reports.questions import STORES, Reading, Row, named
from collector.storage.reports.totals import first_received

By = Literal["campaign", "source", "adset", "ad", "landing-page", "day"]
DayOf = Literal["order", "click"]
WINDOWS: Final = (1, 7, 28, 30, 90)
UNATTRIBUTED: Final = "(not attributed)"
_SLICE: Final = 10_000  # rows that one question looks through: most are page views
_PAGE: Final = 5_000
_AHEAD_MS: Final = 600_000  # an event's own time may lie ten minutes ahead of its receipt
_OTHERS: Final = 3  # rows of any event that are looked through in the time of one order

# Of SQLite alone, as all that goes by row numbers: PostgreSQL has an index by time.
ORDER_SQL: Final = """
SELECT store, ts, flags, body, match, id FROM conversion
 WHERE id >= ? AND id < ? AND event_type = ? AND ts >= ? AND ts < ?"""
PURCHASE_SQL: Final = named(
    "purchases of a store",
    """
SELECT store, ts, flags, body, match, id FROM conversion
 WHERE event_type = 'Purchase' AND store = ? AND ts >= ? AND ts < ? AND (ts, id) > (?, ?) ORDER BY ts, id LIMIT ?""",
)

EVENTS_SQL: Final = named(
    "events of a store",
    """
SELECT store, ts, flags, body, match, id FROM conversion
 WHERE store = ?1 AND ts >= ?2 AND ts < ?3 AND (ts, id) > (?4, ?5) AND event_type = ?7 ORDER BY ts, id LIMIT ?6""",
)
BODIES_SQL: Final = named("bodies of clicks", "SELECT id, body FROM click WHERE id IN (SELECT value FROM json_each(?))")

_RECEIVED_SQL: Final = named(
    "received before the newest",
    """
SELECT received FROM conversion WHERE id <= (SELECT max(id) FROM conversion) - ? ORDER BY id DESC LIMIT 1""",
)


class Question(Struct, frozen=True, kw_only=True):
    """What is asked. Times are ms; `until` is excluded; `store` is a row number, None for all."""

    model: credit.CreditModel
    by: By
    since: int
    until: int
    window_days: int = 7
    day_of: DayOf = "order"
    event_type: str = "Purchase"
    store: int | None = None


class Line(Struct, frozen=True, rename="camel", omit_defaults=True):
    """One label's credit in one currency. `conversions` may be a fraction: an order can be shared.

    With an ad account, by campaign, ad set or ad: what Meta says that it cost in that currency, for each conversion
    too, and value for each unit spent, of proven orders alone and of all (`roas_proven`, `roas`).
    """

    label: str
    currency: str
    conversions: float
    value: Decimal
    proven_value: Decimal | None = None
    spend: Decimal | None = None
    cost_per_conversion: Decimal | None = None
    roas_proven: Decimal | None = None
    roas: Decimal | None = None


class Report(Struct, frozen=True, rename="camel", omit_defaults=True):
    """The answer: lines with the largest credit first, and the totals that they sum to.

    `spend_days`: the ad account's days that the lines' spend is of.
    """

    model: str
    by: str
    window_days: int
    since: str
    until: str
    orders: int
    lines: list[Line]
    spend_days: str | None = None


class _Order(Struct):
    value: Decimal | None = None
    currency: str | None = None
    order_status: str | None = None


class _Landed(Struct, array_like=True):
    """The first fields of a StoredClick."""

    fbclid: str
    landing_page: str


class _Journey(Struct):
    click: int | None = None
    click_ts: int | None = None
    attributed: bool = False
    deterministic: bool = False
    first_ts: int | None = None
    window_days: float = 7.0
    journey: list[tuple[int, int]] = []


_decode_order = msgspec.msgpack.Decoder(_Order).decode
_decode_journey = msgspec.msgpack.Decoder(_Journey).decode
_decode_click = msgspec.msgpack.Decoder(_Landed).decode

# Of a landing page's address.
_LABELS: Final[dict[str, Callable[[str], str]]] = {
    "source": lambda address: labels_of(address)[0],
    "campaign": lambda address: labels_of(address)[1],
    "adset": lambda address: labels_of(address)[2],
    "ad": lambda address: labels_of(address)[3],
    "landing-page": lambda address: campaign_of(address).page,
}


class _Sum:
    """Credit of one label and currency; minor units are added up by their decimals, as whole numbers."""

    def __init__(self) -> None:
        self._whole, self._shares = 0, Fraction(0)  # most orders are not shared, and a fraction costs ten times as much
        self._units: Counter[tuple[int, bool]] = Counter()

    def add(self, share: Fraction | int, units: int, decimals: int, *, proven: bool) -> None:
        """A part of an order. `proven`: it carries the click's own proof."""
        if share == 1:
            self._whole += 1
        else:
            self._shares += share
        self._units[decimals, proven] += units

    @property
    def conversions(self) -> Fraction:
        return self._whole + self._shares

    @property
    def value(self) -> Decimal:
        return sum((from_minor(n, decimals) for (decimals, _), n in self._units.items()), Decimal(0))

    @property
    def proven(self) -> Decimal:
        """Of the value, that of proven orders."""
        return sum((from_minor(n, decimals) for (decimals, sure), n in self._units.items() if sure), Decimal(0))


async def attribution(reader: Reading, question: Question, config: Config | None = None) -> Report:
    """Share out every order of the span. Reads in pages; memory follows the number of labels.

    With a `config` that names an ad account, the lines say what they cost.
    """
    sums: dict[tuple[str, str], _Sum] = defaultdict(_Sum)
    orders = 0
    async for rows in _purchases(reader, question) if question.event_type == "Purchase" else _events(reader, question):
        wanted = [row for row in rows if _is_wanted(row, question)]
        orders += await _share(reader, wanted, question, sums)
    spend, days = await _spend(reader, question, config) if config else ({}, None)
    return Report(
        model=question.model,
        by=question.by,
        window_days=question.window_days,
        since=times.text(question.since),
        until=times.text(question.until),
        orders=orders,
        lines=_lines(sums, spend),
        spend_days=days and f"{days.first}..{days.last}",
    )


async def newest_from(reader: Reading, question: Question, most: int) -> tuple[int, int] | None:
    """The moments (ms) between which the newest `most` orders of the span lie, and one more; None where it has no more.

    No index is by another event's name: of these, as many rows of any name are counted as are read in that time.
    """
    if question.event_type != "Purchase":
        row = await reader.one(_RECEIVED_SQL, most * _OTHERS)
        found = row and (row[0] + _AHEAD_MS, question.until - 1)
        return found if found and question.since <= found[0] < question.until else None
    span = Span(await _stores(reader, question), question.since, question.until)
    sql = f"SELECT min(ts), max(ts), count(*) FROM {newest_sql(span, most + 1)}"
    given = (list(span.stores), span.since, span.until, most + 1)
    row = await reader.one(named("ends of newest purchases", sql, *given))
    return (row[0], row[1]) if row and row[2] > most else None


async def _stores(reader: Reading, question: Question) -> tuple[int, ...]:
    if question.store is not None:
        return (question.store,)
    return tuple(row[0] for row in await reader.rows(STORES))


async def _purchases(reader: Reading, question: Question) -> AsyncIterator[list[Row]]:
    """By their index: page views, of which there are many more, are never read."""
    for store in await _stores(reader, question):
        at = question.since, -1
        while rows := await reader.rows(PURCHASE_SQL, store, at[0], question.until, *at, _SLICE):
            at = rows[-1][1], rows[-1][5]
            yield rows


async def _events(reader: Reading, question: Question) -> AsyncIterator[list[Row]]:
    """Of another name: no index is by it."""
    if reader.by_time:
        for store in await _stores(reader, question):
            at = question.since, -1
            while rows := await reader.rows(EVENTS_SQL, store, at[0], question.until, *at, _SLICE, question.event_type):
                at = rows[-1][1], rows[-1][5]
                yield rows
        return
    ends = await reader.one("SELECT (SELECT min(id) FROM conversion), (SELECT max(id) FROM conversion)")
    if ends is None or ends[0] is None:
        return
    oldest, newest = ends
    first = await first_received(reader, "conversion", oldest, newest, question.since - _AHEAD_MS)
    for start in range(first, newest + 1, _SLICE):
        span = (start, start + _SLICE, question.event_type, question.since, question.until)
        yield await reader.rows(ORDER_SQL, *span)


Spend = dict[tuple[str, str], Decimal]  # by label and currency


async def _spend(reader: Reading, question: Question, config: Config) -> tuple[Spend, Days | None]:
    """What each label's ads cost, and on which days of the account; nothing where Meta does not tell it so."""
    place = {"campaign": 0, "adset": 1, "ad": 2}.get(question.by)
    if place is None or not config.insights.ad_account:
        return {}, None
    days = await insights.account_days(reader, config, question.since, question.until)
    span = Span(await _stores(reader, question), question.since, question.until)
    found = await insights.by_line(reader, config, days, span)
    out: Spend = defaultdict(Decimal)
    for path, currencies in found.items():
        for code, one in currencies.items():
            out[path[place], code] += one.spend
    return out, days


def _is_wanted(row: Row, question: Question) -> bool:
    store, marks = row[0], row[2]
    return question.store in (None, store) and not marks & flags.NO_SALE


async def _share(reader: Reading, rows: Sequence[Row], question: Question, sums: dict[tuple[str, str], _Sum]) -> int:
    """Share out some orders; how many they were. Refunded and cancelled ones have nothing to share."""
    read = [(ts, _decode_order(body), match) for _, ts, _, body, match, _ in rows]
    found = [
        (ts, order, journey.deterministic, *_touches(journey, ts, question))
        for ts, order, match in read
        if not statuses.has_ended(order.order_status)
        for journey in (_decode_journey(match),)
    ]
    labels = await _labels(reader, {click for *_, touches in found for click, _ in touches}, question.by)
    for ts, order, proven, asked, touches in found:
        names = [_label(touch, ts, labels, question) for touch in touches] or [UNATTRIBUTED]
        units, decimals = to_minor(order.value or Decimal(0), order.currency or "")
        parts: list[tuple[Fraction | int, int]] = [(1, units)]
        if len(touches) > 1:
            parts = credit.shared(question.model, [at for _, at in touches], asked, units)
        for name, (share, part) in zip(names, parts, strict=True):
            sums[name, order.currency or ""].add(share, part, decimals, proven=proven)
    return len(found)


def _touches(match: _Journey, ts: int, question: Question) -> tuple[int, list[tuple[int, int]]]:
    """When the order was made that the clicks led to, and the journey's clicks within the window asked for.

    What is credited now where no journey was kept. A renewal's clicks are those of the order that it inherits from.
    """
    ts = _led_to(match, ts)
    journey = match.journey
    if not journey and match.attributed and match.click is not None:
        journey = [(match.click, match.click_ts if match.click_ts is not None else ts)]
    return ts, credit.within(journey, ts, question.window_days * DAY_MS)


def _led_to(match: _Journey, ts: int) -> int:
    """The moment at which the journey ended; an older version's renewal does not tell it: that of the click."""
    if match.first_ts is not None:
        return match.first_ts
    if match.attributed and match.click_ts is not None and ts - match.click_ts > match.window_days * DAY_MS:
        return match.click_ts
    return ts


def _label(touch: tuple[int, int], ts: int, labels: dict[int, str], question: Question) -> str:
    if question.by == "day":
        return times.text(touch[1] if question.day_of == "click" else ts)[:10]
    return labels.get(touch[0]) or MISSING


async def _labels(reader: Reading, clicks: Iterable[int], by: By) -> dict[int, str]:
    """The label of each click that is still kept."""
    if by == "day":
        return {}
    wanted, out = sorted(clicks), {}
    for i in range(0, len(wanted), _PAGE):
        chunk = wanted[i : i + _PAGE]
        for number, body in await reader.rows(BODIES_SQL, msgspec.json.encode(chunk).decode()):
            out[number] = _LABELS[by](_decode_click(body).landing_page)
    return out


def _lines(sums: dict[tuple[str, str], _Sum], spend: Spend) -> list[Line]:
    lines = [_line(key, sums.get(key, _Sum()), spend.get(key), told=bool(spend)) for key in {**sums, **spend}]
    return sorted(lines, key=lambda line: (line.label == UNATTRIBUTED, -line.conversions, line.label, line.currency))


def _line(key: tuple[str, str], own: _Sum, spend: Decimal | None, *, told: bool) -> Line:
    conversions = float(own.conversions)
    if not told:
        return Line(*key, conversions, own.value)
    if not spend:
        return Line(*key, conversions, own.value, own.proven, spend)
    each = round(spend * own.conversions.denominator / own.conversions.numerator, 4) if own.conversions else None
    return Line(
        *key,
        conversions,
        own.value,
        own.proven,
        spend,
        cost_per_conversion=each,
        roas_proven=round(own.proven / spend, 4),
        roas=round(own.value / spend, 4),
    )
