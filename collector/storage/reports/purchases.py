"""Orders in a list, by their time: the newest first, in keyset pages over the index of purchases."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct

from collector.core.events import StoredClick
from collector.core.landing import Campaign, campaign_id_of, campaign_of, labels_of
from collector.storage.reports.delivery import STATES_SQL, combined
from collector.storage.reports.kept import Span
from collector.storage.reports.questions import ABOVE_ALL, Named, Reading, Row, named

_PAGE: Final = 200
_NEXT_PAGES: Final = 1_000  # who goes on looks through many
LOOKED_AT: Final = 10_000  # of a span's purchases, the newest, where not all can be
WAYS_FROM: Final = 2_000  # of those, the attributed ones
_EVER: Final = 1 << 62  # ms
_GROUPS: Final = 100  # SQLite merges up to 500
_SALE: Final = "flags & 145 = 0"  # core/flags.py: NO_SALE


def newest_sql(span: Span, most: int = LOOKED_AT, only: str = "1", *, up: bool = False) -> str:
    """The newest purchases of a span as a table `(id, ts)`, newest first; `only`: a condition on the row.

    `up`: the oldest, oldest first. Each store's are read from that end on and merged: no more than `most` that meet
    it, whatever another store has.
    """
    groups = [span.stores[i::_GROUPS] for i in range(min(_GROUPS, len(span.stores)))] or [(0,)]
    # The literal event lets SQLite use the index of purchases.
    parts = [
        f"SELECT id, ts FROM conversion WHERE event_type = 'Purchase' AND store IN ({','.join(map(str, group))})"
        f" AND ts >= {span.since} AND ts < {span.until} AND {only}"
        for group in groups
    ]
    way = "" if up else " DESC"
    return f"({' UNION ALL '.join(parts)} ORDER BY ts{way}, id{way} LIMIT {most}) AS found"


_SQL: Final = f"""
SELECT c.id, coalesce(s.name, ''), c.ts, c.capi, {STATES_SQL}, c.confidence, c.body, c.match, k.body,
       (SELECT max(doubts) FROM outbox WHERE conversion = c.id),
       (SELECT reason FROM outbox WHERE conversion = c.id AND reason IS NOT NULL LIMIT 1)
  FROM {{found}} CROSS JOIN conversion c ON c.id = found.id
  LEFT JOIN store s ON s.id = c.store LEFT JOIN click k ON k.id = c.click ORDER BY found.ts {{way}}, found.id {{way}}"""


# How soon after its click, and whether nobody whom it names has bought before, as far as it is kept. kind > 0: who the
# person is. Before is by the orders' own time: history may be imported later. Of the newest orders alone, so that a
# page is as soon told of a year.
_WAYS_SQL: Final = f"""
SELECT sold.ts - k.ts, k.body, CASE
  WHEN EXISTS (SELECT 1 FROM conversion_identity WHERE conversion = sold.id AND kind > 0)
       THEN NOT EXISTS (
            SELECT 1 FROM conversion_identity i JOIN conversion_identity j ON j.key = i.key AND j.kind = i.kind
              JOIN conversion o ON o.id = j.conversion
             WHERE i.conversion = sold.id AND i.kind > 0 AND (o.ts, o.id) < (sold.ts, sold.id)
               AND o.event_type = 'Purchase' AND o.store = sold.store AND o.{_SALE}) END
  FROM (SELECT c.id, c.ts, c.store, c.click FROM {{}} CROSS JOIN conversion c ON c.id = found.id
         WHERE c.click IS NOT NULL AND c.{_SALE} ORDER BY found.ts DESC, found.id DESC LIMIT {WAYS_FROM}) AS sold
  JOIN click k ON k.id = sold.click"""
_LAGS_SQL: Final = f"""
SELECT sold.ts - k.ts
  FROM (SELECT c.ts, c.click FROM {{}} CROSS JOIN conversion c ON c.id = found.id
         WHERE c.click IS NOT NULL AND c.{_SALE} ORDER BY found.ts DESC, found.id DESC LIMIT {WAYS_FROM}) AS sold
  JOIN click k ON k.id = sold.click"""


class Way(NamedTuple):
    """How an order came of its click. `new`: whether its customer is; None where it names nobody."""

    place: Campaign
    after_ms: int
    new: bool | None
    campaign_id: str = ""  # Meta's own, where the landing page has it


async def newest_ways(reader: Reading, span: Span) -> list[Way]:
    """Of the newest purchases of a span (LOOKED_AT) those with a click, at most WAYS_FROM."""
    return [_way(*row) for row in await reader.rows(_of_newest("ways", _WAYS_SQL, span))]


def _way(after: int, body: bytes, new: int | None) -> Way:
    address = _click(body).landing_page
    place = Campaign(*labels_of(address))
    return Way(place, max(after, 0), None if new is None else bool(new), campaign_id_of(address))


async def lags(reader: Reading, span: Span) -> list[int]:
    """Milliseconds from click to order, of the same as `newest_ways`."""
    return [lag for (lag,) in await reader.rows(_of_newest("lags", _LAGS_SQL, span))]


def _of_newest(name: str, sql: str, span: Span) -> Named:
    given = (list(span.stores), span.since, span.until, LOOKED_AT, WAYS_FROM)
    return named(name, sql.format(newest_sql(span)), *given)


class _Sold(Struct):
    order_id: str | None = None
    value: Decimal | None = None
    currency: str | None = None
    order_status: str | None = None
    marketing: str = "granted"
    rank: int = 1


class _Judged(Struct):
    attributed: bool = False
    deterministic: bool = False
    method: str | None = None
    reason: str | None = None


_sold: Final = msgspec.msgpack.Decoder(_Sold).decode
_judged: Final = msgspec.msgpack.Decoder(_Judged).decode
_click: Final = msgspec.msgpack.Decoder(StoredClick).decode


class Order(Struct, frozen=True):
    """One order, without anything personal."""

    id: int
    store: str
    ts: int
    number: str
    value: Decimal | None
    currency: str
    status: str
    state: int
    doubt: bool
    why: str
    campaign: Campaign
    confidence: int | None
    tier: int  # 0 none, 1 likely, 2 proven
    method: str
    consent: str
    teller: str  # page, server, shop


def _order(row: Row) -> Order:
    number, store, ts, capi, states, confidence, body, match, click, doubts, reason = row
    sold, judged = _sold(body), _judged(match)
    return Order(
        number,
        store,
        ts,
        sold.order_id or "",
        sold.value,
        sold.currency or "",
        sold.order_status or "",
        combined(capi, states),
        bool(doubts),
        reason or "",
        campaign_of(_click(click).landing_page) if click else Campaign(),
        confidence,
        int(judged.attributed) * (1 + int(judged.deterministic)),
        judged.method or "",
        sold.marketing,
        ("page", "server", "shop")[min(max(sold.rank, 0), 2)],
    )


async def orders(
    reader: Reading, span: Span, after: tuple[int, int] | None = None, *, up: bool = False
) -> AsyncIterator[Order]:
    """The orders of a span, newest first, or (`up`) oldest first; `after` is the (ts, id) of the last one seen."""
    at, size = after, _PAGE
    while rows := await reader.rows(_page(span, at, size, up)):
        for row in rows:
            yield _order(row)
        at, size = (rows[-1][2], rows[-1][0]), _NEXT_PAGES


def _page(span: Span, at: tuple[int, int] | None, size: int, up: bool) -> Named:
    last = at or ((-_EVER, 0) if up else (_EVER, ABOVE_ALL))
    sql = _SQL.format(found=_page_sql(span, at, size, up), way="" if up else "DESC")
    name = f"orders, the {'oldest' if up else 'newest'} first"
    return named(name, sql, list(span.stores), span.since, span.until, size, *last)


def _page_sql(span: Span, at: tuple[int, int] | None, size: int, up: bool) -> str:
    """The next page; the bound on the time alone is what the index begins at."""
    if at is None:
        return newest_sql(span, size, _SALE, up=up)
    rest = span._replace(since=max(span.since, at[0])) if up else span._replace(until=min(span.until, at[0] + 1))
    return newest_sql(rest, size, f"(ts, id) {'>' if up else '<'} ({at[0]}, {at[1]}) AND {_SALE}", up=up)
