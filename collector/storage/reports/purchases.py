"""Orders in a list, by their time: the newest first, in keyset pages over the index of purchases."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Final

import msgspec
from msgspec import Struct

from collector.core.events import StoredClick
from collector.core.landing import Campaign, campaign_of
from collector.storage.reports.delivery import STATES_SQL, combined
from collector.storage.reports.kept import Span
from collector.storage.reports.reader import Reader, Row

_PAGE: Final = 200
# The literal event lets SQLite use the index of purchases; 145: what is no sale (core/flags.py: NO_SALE).
_SQL: Final = f"""
SELECT c.id, coalesce(s.name, ''), c.ts, c.capi, {STATES_SQL}, c.confidence, c.body, c.match, k.body,
       (SELECT max(doubts) FROM outbox WHERE conversion = c.id),
       (SELECT reason FROM outbox WHERE conversion = c.id AND reason IS NOT NULL LIMIT 1)
  FROM conversion c LEFT JOIN store s ON s.id = c.store LEFT JOIN click k ON k.id = c.click
 WHERE c.event_type = 'Purchase' AND c.ts >= ? AND c.ts < ? AND (c.ts, c.id) < (?, ?)
   AND c.store IN ({{}}) AND c.flags & 145 = 0
 ORDER BY c.ts DESC, c.id DESC LIMIT {_PAGE}"""


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


async def orders(reader: Reader, span: Span, after: tuple[int, int] | None = None) -> AsyncIterator[Order]:
    """The orders of a span, newest first; `after` is the (ts, id) of the last one seen."""
    at = after or (1 << 62, 0)
    sql = _SQL.format(",".join(map(str, span.stores)) or "0")
    while rows := await reader.rows(sql, span.since, span.until, *at):
        for row in rows:
            yield _order(row)
        at = rows[-1][2], rows[-1][0]
