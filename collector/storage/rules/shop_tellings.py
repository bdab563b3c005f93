"""What a shop tells of an order by any name, beside what is known of that: the same sale, another value, an end."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

import msgspec
from msgspec import structs

from collector.core import amounts, orders
from collector.core.events import StoredEvent
from collector.core.orders import Rank
from collector.exchange.naming import NewEvent
from collector.exchange.rows import ConversionRow

_CENT: Final = Decimal("0.01")
_NEAR_MS: Final = 7 * 86_400_000  # so far apart two orders of one number may be one sale
_decode_event = msgspec.msgpack.Decoder(StoredEvent).decode


def is_same_sale(store: int, event: StoredEvent, row: ConversionRow) -> bool:
    """Whether a number's two orders are one: near in time, of one value, and of nobody else's e-mail."""
    kept = _decode_event(row.body)
    if row.store != store or abs(row.ts - event.ts) > _NEAR_MS:
        return False
    if kept.value is None or event.value is None or kept.currency != event.currency:
        return False
    one, other = set(kept.user_data.get("em", ())), set(event.user_data.get("em", ()))
    return amounts.same(kept.value, event.value, event.currency) and (not one or not other or bool(one & other))


def values_differ(row: ConversionRow, event: StoredEvent) -> bool:
    """Whether a server told the order at another value than its shop now does for the first time (O6)."""
    kept = _decode_event(row.body)
    if kept.rank >= Rank.SHOP or kept.value is None or event.value is None or kept.currency != event.currency:
        return False  # the other currency of the same order is no difference
    return abs(kept.value - event.value) > _CENT


def ended(new: NewEvent) -> NewEvent:
    """The telling of an end alone: it says nothing of what the order was worth."""
    facts = [structs.replace(f, value=None, currency=f.currency if f.refund else None) for f in new.event.told]
    return structs.replace(new, event=structs.replace(new.event, value=None, currency=None, told=facts))


def is_refund_of_a_pages(event: StoredEvent, known: ConversionRow) -> bool:
    """Whether a refund alone tells of an order that only a page has told: it does not say what that was worth."""
    return any(fact.refund for fact in event.told) and orders.rank_of(_decode_event(known.body)) == Rank.PAGE
