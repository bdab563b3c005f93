"""Which campaign, ad, page or day has earned the orders, under a credit model: the stored journeys, shared out exactly.

Amounts are shared in whole minor units by largest remainder, so the lines of a currency sum to its orders to the cent.
Orders without a click are a line of their own: nothing is left out of the sum.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Final, Literal

import msgspec
from msgspec import Struct

from collector.core import credit, flags, statuses, times
from collector.core.events import StoredClick
from collector.core.landing import Campaign, campaign_of
from collector.storage.reports.folds import DAY_MS, MISSING
from collector.storage.reports.money import from_minor, to_minor
from collector.storage.reports.reader import Reader, Row
from collector.storage.reports.totals import first_received

By = Literal["campaign", "source", "adset", "ad", "landing-page", "day"]
DayOf = Literal["order", "click"]
WINDOWS: Final = (1, 7, 28, 30, 90)
UNATTRIBUTED: Final = "(not attributed)"
_SLICE: Final = 10_000  # rows that one question looks through: most are page views
_PAGE: Final = 500
_AHEAD_MS: Final = 600_000  # an event's own time may lie ten minutes ahead of its receipt

ORDER_SQL: Final = """
SELECT store, ts, flags, body, match FROM conversion
 WHERE id >= ? AND id < ? AND event_type = ? AND ts >= ? AND ts < ?"""


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


class Line(Struct, frozen=True, rename="camel"):
    """One label's credit in one currency. `conversions` may be a fraction: an order can be shared."""

    label: str
    currency: str
    conversions: float
    value: Decimal


class Report(Struct, frozen=True, rename="camel"):
    """The answer: lines with the largest credit first, and the totals that they sum to."""

    model: str
    by: str
    window_days: int
    since: str
    until: str
    orders: int
    lines: list[Line]


class _Order(Struct):
    value: Decimal | None = None
    currency: str | None = None
    order_status: str | None = None


class _Journey(Struct):
    click: int | None = None
    click_ts: int | None = None
    attributed: bool = False
    first_ts: int | None = None
    window_days: float = 7.0
    journey: list[tuple[int, int]] = []


_decode_order = msgspec.msgpack.Decoder(_Order).decode
_decode_journey = msgspec.msgpack.Decoder(_Journey).decode
_decode_click = msgspec.msgpack.Decoder(StoredClick).decode

_LABELS: Final[dict[str, Callable[[Campaign], str]]] = {
    "campaign": lambda place: place.campaign,
    "source": lambda place: place.source,
    "adset": lambda place: place.adset,
    "ad": lambda place: place.ad,
    "landing-page": lambda place: place.page,
}


class _Sum:
    """Credit of one label and currency; units are kept at the finest decimals seen."""

    def __init__(self) -> None:
        self.conversions = Fraction(0)
        self.value = Decimal(0)


async def attribution(reader: Reader, question: Question) -> Report:
    """Share out every order of the span. Reads in pages; memory follows the number of labels."""
    sums: dict[tuple[str, str], _Sum] = defaultdict(_Sum)
    orders = 0
    ends = await reader.one("SELECT (SELECT min(id) FROM conversion), (SELECT max(id) FROM conversion)")
    if ends is not None and ends[0] is not None:
        oldest, newest = ends
        first = await first_received(reader, "conversion", oldest, newest, question.since - _AHEAD_MS)
        for start in range(first, newest + 1, _SLICE):
            span = (start, start + _SLICE, question.event_type, question.since, question.until)
            wanted = [row for row in await reader.rows(ORDER_SQL, *span) if _is_wanted(row, question)]
            orders += await _share(reader, wanted, question, sums)
    return Report(
        model=question.model,
        by=question.by,
        window_days=question.window_days,
        since=times.text(question.since),
        until=times.text(question.until),
        orders=orders,
        lines=_lines(sums),
    )


def _is_wanted(row: Row, question: Question) -> bool:
    store, marks = row[0], row[2]
    return question.store in (None, store) and not marks & flags.NO_SALE


async def _share(reader: Reader, rows: Sequence[Row], question: Question, sums: dict[tuple[str, str], _Sum]) -> int:
    """Share out some orders; how many they were. Refunded and cancelled ones have nothing to share."""
    read = [(ts, _decode_order(body), match) for _, ts, _, body, match in rows]
    found = [
        (ts, order, *_touches(_decode_journey(match), ts, question))
        for ts, order, match in read
        if not statuses.has_ended(order.order_status)
    ]
    labels = await _labels(reader, {click for *_, touches in found for click, _ in touches}, question.by)
    for ts, order, asked, touches in found:
        names = [_label(touch, ts, labels, question) for touch in touches] or [UNATTRIBUTED]
        shares = credit.weights(question.model, [at for _, at in touches], asked) or [Fraction(1)]
        units, decimals = to_minor(order.value or Decimal(0), order.currency or "")
        for name, share, part in zip(names, shares, credit.allocate(units, shares), strict=True):
            own = sums[name, order.currency or ""]
            own.conversions += share
            own.value += from_minor(part, decimals)
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


async def _labels(reader: Reader, clicks: Iterable[int], by: By) -> dict[int, str]:
    """The label of each click that is still kept."""
    if by == "day":
        return {}
    wanted, out = sorted(clicks), {}
    for i in range(0, len(wanted), _PAGE):
        chunk = wanted[i : i + _PAGE]
        sql = f"SELECT id, body FROM click WHERE id IN ({','.join('?' * len(chunk))})"
        for number, body in await reader.rows(sql, *chunk):
            out[number] = _LABELS[by](campaign_of(_decode_click(body).landing_page))
    return out


def _lines(sums: dict[tuple[str, str], _Sum]) -> list[Line]:
    lines = [Line(label, code, float(s.conversions), s.value) for (label, code), s in sums.items()]
    return sorted(lines, key=lambda line: (line.label == UNATTRIBUTED, -line.conversions, line.label, line.currency))
