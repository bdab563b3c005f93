"""What the kept sums say of a span: sales, clicks, deliveries and refusals, by quarter hour, place or cause.

Spans are ms and begin and end at quarters of an hour, as the days of every time zone do; `stores` are row numbers. Each
answer reads the sums alone, never the rows that they are of.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Final, NamedTuple

from collector.core.event_names import STANDARD
from collector.core.landing import Campaign
from collector.storage.reports.reader import Reader, Row

QUARTER_MS: Final = 900_000
_UNITS: Final = Decimal(10_000)
SEPARATOR: Final = "\x1f"
CUSTOM: Final = "(custom)"  # events that are no standard ones
# Named, so that SQLite finds each one's span in the key (store, event, quarter) and reads no other quarter.
_EVENTS: Final = ", ".join(f"'{name}'" for name in (*sorted(STANDARD), CUSTOM))
OTHER: Final = Campaign("(other)", "(other)", "(other)", "(other)")


class Span(NamedTuple):
    """Which stores, from when until when (ms; `until` is excluded)."""

    stores: tuple[int, ...]
    since: int
    until: int

    @property
    def where(self) -> str:
        """The condition, for tables with `store` and `quarter`; row numbers are ours, so they may stand in it."""
        return (
            f"store IN ({','.join(map(str, self.stores)) or '0'}) AND quarter >= {self.first} AND quarter < {self.end}"
        )

    @property
    def first(self) -> int:
        return self.since // QUARTER_MS

    @property
    def end(self) -> int:
        return self.until // QUARTER_MS


class Sale(NamedTuple):
    """Events with one key. `key`: a quarter (in ms), or a place; `tier`: 0 not attributed, 1 likely, 2 proven."""

    key: int
    currency: str
    tier: int
    n: int
    value: Decimal  # of those that were not refunded, cancelled or never paid
    reversed: int


class Delivered(NamedTuple):
    """Events with one fate at one pixel (empty: never queued). `cause` is the reason kept with them."""

    quarter: int  # ms
    pixel: str
    state: int
    doubt: bool
    cause: str
    n: int


def _sale(row: Row, scale: int) -> Sale:
    key, currency, tier, n, units, reversed_ = row
    return Sale(key * scale, currency, tier, n, Decimal(units) / _UNITS, reversed_)


async def sales_by_quarter(reader: Reader, span: Span, event: str) -> list[Sale]:
    """Events of one name, by the quarter that they happened in."""
    sql = f"""SELECT quarter, currency, tier, sum(n), sum(units), sum(reversed) FROM sale_sum
 WHERE event = ? AND {span.where} GROUP BY 1, 2, 3 HAVING sum(n) ORDER BY 1"""
    return [_sale(row, QUARTER_MS) for row in await reader.rows(sql, event)]


async def sales_by_place(reader: Reader, span: Span, event: str) -> list[Sale]:
    """Events of one name, by the place of the click that they are credited to (0: no name is known)."""
    sql = f"""SELECT place, currency, tier, sum(n), sum(units), sum(reversed) FROM sale_sum
 WHERE event = ? AND {span.where} GROUP BY 1, 2, 3 HAVING sum(n)"""
    return [_sale(row, 1) for row in await reader.rows(sql, event)]


async def events(reader: Reader, span: Span) -> dict[str, int]:
    """How many events of each name."""
    sql = f"""SELECT event, sum(n) FROM sale_sum
 WHERE event IN ({_EVENTS}) AND {span.where} GROUP BY 1 HAVING sum(n) ORDER BY 2 DESC"""
    return dict(await reader.rows(sql))


async def sales(reader: Reader, span: Span) -> list[tuple[str, Sale]]:
    """All events by their name; the sales' `key` is their store's row number."""
    sql = f"""SELECT event, store, currency, tier, sum(n), sum(units), sum(reversed) FROM sale_sum
 WHERE event IN ({_EVENTS}) AND {span.where} GROUP BY 1, 2, 3, 4 HAVING sum(n)"""
    return [(event, _sale(tuple(rest), 1)) for event, *rest in await reader.rows(sql)]


async def clicks(reader: Reader, span: Span) -> tuple[int, int]:
    """How many clicks are people's, and how many are kept apart."""
    sql = f"SELECT apart <> '', sum(n) FROM click_sum WHERE {span.where} GROUP BY 1"
    found: dict[int, int] = dict(await reader.rows(sql))
    return found.get(0, 0), found.get(1, 0)


async def clicks_by_quarter(reader: Reader, span: Span) -> dict[int, int]:
    """People's clicks, by the quarter (ms) of the click."""
    sql = f"SELECT quarter, sum(n) FROM click_sum WHERE apart = '' AND {span.where} GROUP BY 1"
    return {quarter * QUARTER_MS: n for quarter, n in await reader.rows(sql)}


async def clicks_by_place(reader: Reader, span: Span) -> dict[int, int]:
    """People's clicks, by place."""
    sql = f"SELECT place, sum(n) FROM click_sum WHERE apart = '' AND {span.where} GROUP BY 1 HAVING sum(n)"
    return dict(await reader.rows(sql))


async def kept_apart(reader: Reader, span: Span) -> list[tuple[str, str, int]]:
    """Clicks that are never matched: the kind, a crawler's name or nothing, how many; most first."""
    sql = f"""SELECT apart, sum(n) FROM click_sum
 WHERE apart <> '' AND {span.where} GROUP BY 1 HAVING sum(n) ORDER BY 2 DESC"""
    return [(*apart.partition(SEPARATOR)[::2], n) for apart, n in await reader.rows(sql)]


async def places(reader: Reader, numbers: Iterable[int]) -> dict[int, Campaign]:
    """What places are called."""
    wanted = ",".join(str(number) for number in set(numbers))
    if not wanted:
        return {}
    found = await reader.rows(f"SELECT id, name FROM place WHERE id IN ({wanted})")
    return {number: Campaign(*name.split(SEPARATOR)) for number, name in found}


async def deliveries(reader: Reader, span: Span, event: str | None, *, sales: bool) -> list[Delivered]:
    """How events stand with Meta, by the quarter in which they happened; `sales`: without tests and pages' own word."""
    sql = f"""SELECT d.quarter, coalesce(p.name, ''), d.state, d.doubt, coalesce(c.name, ''), sum(d.n)
  FROM delivery_sum d LEFT JOIN pixel p ON p.id = d.pixel LEFT JOIN cause c ON c.id = d.cause
 WHERE (?1 IS NULL OR event = ?1) AND sale >= ?2 AND {span.where} GROUP BY 1, 2, 3, 4, 5 HAVING sum(d.n)"""
    rows = await reader.rows(sql, event, int(sales))
    return [
        Delivered(quarter * QUARTER_MS, pixel, state, bool(doubt), why, n)
        for quarter, pixel, state, doubt, why, n in rows
    ]


async def states(reader: Reader, span: Span) -> list[tuple[str, int, int]]:
    """Pixel (empty: never queued), state and how many, without tests and pages' own word."""
    sql = f"""SELECT coalesce(p.name, ''), d.state, sum(d.n) FROM delivery_sum d LEFT JOIN pixel p ON p.id = d.pixel
 WHERE event IN ({_EVENTS}) AND sale = 1 AND {span.where} GROUP BY 1, 2 HAVING sum(d.n)"""
    return [(pixel, state, n) for pixel, state, n in await reader.rows(sql)]


async def refusals(reader: Reader, span: Span) -> dict[str, int]:
    """What the edge refused, by the code of its answer, of all stores; most first."""
    sql = "SELECT code, sum(n) FROM refusal_sum WHERE quarter >= ? AND quarter < ? GROUP BY 1 ORDER BY 2 DESC"
    return dict(await reader.rows(sql, span.first, span.end))
