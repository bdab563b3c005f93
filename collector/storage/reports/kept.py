"""What the kept sums say of a span: sales, clicks, deliveries and refusals, by quarter hour, place or cause.

Spans are ms and begin and end at quarters of an hour, as the days of every time zone do; `stores` are row numbers. Each
answer reads the sums alone, never the rows that they are of; of a long span, its whole UTC days and the quarters at its
two ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Final, NamedTuple

from collector.core.event_names import STANDARD
from collector.core.landing import Campaign
from collector.storage.reports.questions import Questions, Row, named

QUARTER_MS: Final = 900_000
_OF_A_DAY: Final = 96
_UNITS: Final = Decimal(10_000)
SEPARATOR: Final = "\x1f"
CUSTOM: Final = "(custom)"  # events that are no standard ones
# Named, so that SQLite finds each one's span in the key (store, event, quarter) and reads no other quarter.
STANDARD_SQL: Final = ", ".join(f"'{name}'" for name in sorted(STANDARD))
_EVENTS: Final = f"{STANDARD_SQL}, '{CUSTOM}'"
OTHER: Final = Campaign("(other)", "(other)", "(other)", "(other)")


class Span(NamedTuple):
    """Which stores, from when until when (ms; `until` is excluded)."""

    stores: tuple[int, ...]
    since: int
    until: int

    @property
    def of_stores(self) -> str:
        """The condition on stores; row numbers are ours, so they may stand in it."""
        return f"store IN ({','.join(map(str, self.stores)) or '0'})"

    @property
    def where(self) -> str:
        """The condition, for tables with `store` and `quarter`."""
        return f"{self.of_stores} AND quarter >= {self.first} AND quarter < {self.end}"

    @property
    def first(self) -> int:
        return self.since // QUARTER_MS

    @property
    def end(self) -> int:
        return self.until // QUARTER_MS

    @property
    def given(self) -> tuple[object, ...]:
        """What PostgreSQL is given of it: the stores, the quarters."""
        return list(self.stores), self.first, self.end

    @property
    def parts(self) -> tuple[object, ...]:
        """Likewise for its rows: the stores, the whole days, the quarters before and after them."""
        day, last = -(-self.first // _OF_A_DAY), self.end // _OF_A_DAY
        if day >= last:
            return list(self.stores), 0, 0, self.first, self.end, 0, 0
        return list(self.stores), day, last, self.first, day * _OF_A_DAY, last * _OF_A_DAY, self.end

    def rows(self, kind: str, columns: str, condition: str = "1") -> str:
        """The rows of KIND_day for the whole UTC days and of KIND_sum for what is left, as one table."""
        day, last = -(-self.first // _OF_A_DAY), self.end // _OF_A_DAY
        whole = f"{condition} AND {self.of_stores}"

        def of(table: str, unit: str, first: int, end: int) -> str:
            return f"SELECT {columns} FROM {table} WHERE {whole} AND {unit} >= {first} AND {unit} < {end}"

        if day >= last:
            return f"({of(f'{kind}_sum', 'quarter', self.first, self.end)}) AS found"
        parts = (
            of(f"{kind}_day", "day", day, last),
            of(f"{kind}_sum", "quarter", self.first, day * _OF_A_DAY),
            of(f"{kind}_sum", "quarter", last * _OF_A_DAY, self.end),
        )
        return f"({' UNION ALL '.join(parts)}) AS found"


def steps_sql(begins: Sequence[int], until: int) -> str:
    """The columns of a plot, begun at these moments (ms), as a table `step (begin, first, end)`: ms, then quarters."""
    values = ",".join(f"({begin},{first},{end})" for begin, first, end in zip(*steps(begins, until), strict=True))
    return f"WITH step (begin, first, end) AS (VALUES {values})"


def steps(begins: Sequence[int], until: int) -> tuple[list[int], list[int], list[int]]:
    """The same as columns."""
    ends = [end // QUARTER_MS for end in (*begins[1:], until)]
    return list(begins), [begin // QUARTER_MS for begin in begins], ends


class Sale(NamedTuple):
    """Events with one key. `key`: a column's begin (ms), or a place; `tier`: 0 not attributed, 1 likely, 2 proven."""

    key: int
    currency: str
    tier: int
    n: int
    value: Decimal  # of those that were not refunded, cancelled or never paid
    reversed: int


class Delivered(NamedTuple):
    """Events with one fate at one pixel (empty: never queued)."""

    begin: int  # of the plot's column, ms; 0 where none was asked for
    pixel: str
    state: int
    doubt: bool
    n: int


class Waited(NamedTuple):
    """Events of one pixel that Meta took, by how long that took, in steps of `wait_step`."""

    begin: int
    pixel: str
    step: int
    n: int


def _sale(row: Row, scale: int) -> Sale:
    key, currency, tier, n, units, reversed_ = row
    return Sale(key * scale, currency, tier, n, Decimal(units) / _UNITS, reversed_)


async def sales_by_step(reader: Questions, span: Span, event: str, begins: Sequence[int]) -> list[Sale]:
    """Events of one name, by the column of a plot that they happened in."""
    sql = f"""{steps_sql(begins, span.until)}
SELECT (s.begin << 2) + q.tier, q.currency, sum(q.n), sum(q.units), sum(q.reversed)
  FROM step s CROSS JOIN sale_quarter q
 WHERE q.{span.of_stores} AND q.event = ? AND q.quarter >= s.first AND q.quarter < s.end
 GROUP BY 1, 2 HAVING sum(q.n) ORDER BY 1"""
    asked = named("sales by step", sql, list(span.stores), *steps(begins, span.until))
    return [_sale((key >> 2, code, key & 3, *sums), 1) for key, code, *sums in await reader.rows(asked, event)]


async def by_tier(reader: Questions, span: Span, event: str) -> tuple[int, int, int]:
    """How many events of one name are not attributed, likely, proven."""
    sql = f"""SELECT total(n), total(n * (tier = 1)), total(n * (tier = 2)) FROM sale_quarter
 WHERE {span.where} AND event = ?"""
    ((every, likely, proven),) = await reader.rows(named("sales by tier", sql, *span.given), event)
    return int(every - likely - proven), int(likely), int(proven)


async def sales_by_place(reader: Questions, span: Span, event: str) -> list[Sale]:
    """Events of one name, by the place of the click that they are credited to (0: no name is known)."""
    rows = span.rows("sale", "place, currency, tier, n, units, reversed", "event = ?1")
    sql = f"""SELECT place, currency, tier, sum(n), sum(units), sum(reversed) FROM {rows}
 GROUP BY 1, 2, 3 HAVING sum(n)"""
    return [_sale(row, 1) for row in await reader.rows(named("sales by place", sql, *span.parts), event)]


async def events(reader: Questions, span: Span) -> dict[str, int]:
    """How many events of each name."""
    rows = span.rows("sale", "event, n", f"event IN ({_EVENTS})")
    sql = f"SELECT event, sum(n) FROM {rows} GROUP BY 1 HAVING sum(n) ORDER BY 2 DESC"
    return dict(await reader.rows(named("events of a span", sql, *span.parts)))


async def sales(reader: Questions, span: Span) -> list[tuple[str, Sale]]:
    """All events by their name; the sales' `key` is their store's row number."""
    rows = span.rows("sale", "event, store, currency, tier, n, units, reversed", f"event IN ({_EVENTS})")
    sql = f"""SELECT event, store, currency, tier, sum(n), sum(units), sum(reversed) FROM {rows}
 GROUP BY 1, 2, 3, 4 HAVING sum(n)"""
    asked = named("sales of a span", sql, *span.parts)
    return [(event, _sale(tuple(rest), 1)) for event, *rest in await reader.rows(asked)]


async def clicks(reader: Questions, span: Span) -> tuple[int, int]:
    """How many clicks are people's, and how many are kept apart."""
    sql = f"SELECT apart <> '', sum(n) FROM {span.rows('click', 'apart, n')} GROUP BY 1"
    found: dict[int, int] = dict(await reader.rows(named("clicks of a span", sql, *span.parts)))
    return found.get(0, 0), found.get(1, 0)


async def clicks_by_step(reader: Questions, span: Span, begins: Sequence[int]) -> dict[int, int]:
    """People's clicks, by the column of a plot (its begin in ms) that they were made in."""
    sql = f"""{steps_sql(begins, span.until)}
SELECT s.begin, sum(q.n) FROM step s CROSS JOIN click_quarter q
 WHERE q.{span.of_stores} AND q.quarter >= s.first AND q.quarter < s.end GROUP BY 1 HAVING sum(q.n)"""
    asked = named("clicks by step", sql, list(span.stores), *steps(begins, span.until))
    return dict(await reader.rows(asked))


async def clicks_by_place(reader: Questions, span: Span) -> dict[int, int]:
    """People's clicks, by place."""
    rows = span.rows("click", "place, n", "apart = ''")
    sql = f"SELECT place, sum(n) FROM {rows} GROUP BY 1 HAVING sum(n)"
    return dict(await reader.rows(named("clicks by place", sql, *span.parts)))


async def kept_apart(reader: Questions, span: Span) -> list[tuple[str, str, int]]:
    """Clicks that are never matched: the kind, a crawler's name or nothing, how many; most first."""
    rows = span.rows("click", "apart, n", "apart <> ''")
    sql = f"SELECT apart, sum(n) FROM {rows} GROUP BY 1 HAVING sum(n) ORDER BY 2 DESC"
    asked = named("clicks kept apart", sql, *span.parts)
    return [(*apart.partition(SEPARATOR)[::2], n) for apart, n in await reader.rows(asked)]


async def places(reader: Questions, numbers: Iterable[int]) -> dict[int, Campaign]:
    """What places are called."""
    wanted = sorted(set(numbers))
    if not wanted:
        return {}
    sql = f"SELECT id, name FROM place WHERE id IN ({','.join(map(str, wanted))})"
    found = await reader.rows(named("places", sql, wanted))
    return {number: Campaign(*name.split(SEPARATOR)) for number, name in found}


async def deliveries(reader: Questions, span: Span, event: str, *, sales: bool = True) -> list[Delivered]:
    """How events stand with Meta; `sales`: without tests and pages' own word."""
    # One number is sorted in two thirds of the time that three columns take.
    sql = f"""SELECT 0, coalesce(p.name, ''), fate >> 1 & 127, fate & 1, found.n
  FROM (SELECT (pixel << 8) + (state << 1) + doubt AS fate, sum(n) AS n FROM delivery_sum
         WHERE event = ?1 AND {span.where} AND sale >= ?2 GROUP BY 1 HAVING sum(n)) AS found
  LEFT JOIN pixel p ON p.id = found.fate >> 8"""
    return [_delivered(row) for row in await reader.rows(named("deliveries", sql, *span.given), event, int(sales))]


async def deliveries_by_step(reader: Questions, span: Span, event: str, begins: Sequence[int]) -> list[Delivered]:
    """How events stand with Meta, by the column of a plot that they happened in; no tests, no pages' own word."""
    sql = f"""{steps_sql(begins, span.until)}
SELECT s.begin, p.name, d.state, d.doubt, sum(d.n)
  FROM step s CROSS JOIN delivery_sum d JOIN pixel p ON p.id = d.pixel
 WHERE d.{span.of_stores} AND d.event = ? AND d.quarter >= s.first AND d.quarter < s.end AND d.sale = 1
 GROUP BY 1, 2, 3, 4 HAVING sum(d.n)"""
    asked = named("deliveries by step", sql, list(span.stores), *steps(begins, span.until))
    return [_delivered(row) for row in await reader.rows(asked, event)]


def _delivered(row: Row) -> Delivered:
    begin, pixel, state, doubt, n = row
    return Delivered(begin, pixel, state, bool(doubt), n)


async def waits_by_step(reader: Questions, until: int, begins: Sequence[int]) -> list[Waited]:
    """How long each pixel's events, received in a column of a plot, waited for Meta's 200; of every event's name."""
    sql = f"""{steps_sql(begins, until)}
SELECT s.begin, p.name, w.step, sum(w.n)
  FROM step s CROSS JOIN pixel p CROSS JOIN wait_sum w
 WHERE w.pixel = p.id AND w.quarter >= s.first AND w.quarter < s.end GROUP BY 1, 2, 3 HAVING sum(w.n)"""
    return [Waited(*row) for row in await reader.rows(named("waits by step", sql, *steps(begins, until)))]


async def states(reader: Questions, span: Span) -> list[tuple[str, int, int]]:
    """Pixel (empty: never queued), state and how many, without tests and pages' own word."""
    sql = f"""SELECT coalesce(p.name, ''), d.state, sum(d.n) FROM delivery_sum d LEFT JOIN pixel p ON p.id = d.pixel
 WHERE event IN ({_EVENTS}) AND sale = 1 AND {span.where} GROUP BY 1, 2 HAVING sum(d.n)"""
    asked = named("states of a span", sql, *span.given)
    return [(pixel, state, n) for pixel, state, n in await reader.rows(asked)]


async def refusals(reader: Questions, span: Span) -> dict[str, int]:
    """What the edge refused, by the code of its answer, of all stores; most first."""
    return dict(await reader.rows(_REFUSALS, span.first, span.end))


_REFUSALS: Final = named(
    "refusals",
    "SELECT code, sum(n) FROM refusal_sum WHERE quarter >= ? AND quarter < ? GROUP BY 1 ORDER BY 2 DESC",
)
_EACH_REFUSAL: Final = named(
    "refusals one by one",
    "SELECT at, code, field, called FROM refusal WHERE at >= ? AND at < ? ORDER BY id DESC LIMIT ?",
)


class Refusal(NamedTuple):
    """One refusal: when (ms), the code of its answer, the field at fault and the order's number, as far as known."""

    at: int
    code: str
    field: str
    order: str


async def refusals_one_by_one(reader: Questions, span: Span, limit: int) -> list[Refusal]:
    """The newest of a span, of all stores: of each code the newest 500 of 30 days are kept."""
    return [Refusal(*row) for row in await reader.rows(_EACH_REFUSAL, span.since, span.until, limit)]
