"""An event's row, and what it becomes when it is told again: its keys, its flags, and whether its answer is another."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import structs

from collector.core import flags, orders
from collector.core.capi.states import CapiState
from collector.core.events import StoredEvent
from collector.core.matching import Match, Query
from collector.core.orders import Rank
from collector.exchange.naming import NewEvent
from collector.exchange.rows import ConversionRow

_encode = msgspec.msgpack.Encoder().encode
KEY_OF: Final = {"visitor_id": "visitor", "fbp": "fbp", "fbc": "fbclid"}  # the key of a field of an event
NOBODY: Final[dict[str, Any]] = {
    **dict.fromkeys(("visitor_k", "fbp_k", "ip_k", "ua_k", "fp_k")),
    "ua_class": 0,
}
_KEYS: Final = ("visitor_k", "fbp_k", "ip_k", "ua_k", "fp_k", "click_id")


def complete(query: Query, new: Query) -> Query:
    """The first request's keys, and the second's where the first had none."""
    absent = {f: value for f in _KEYS if getattr(query, f) is None and (value := getattr(new, f)) is not None}
    return structs.replace(query, ua_class=query.ua_class or new.ua_class, **absent)


def bits_of(row: ConversionRow, new: NewEvent, old: StoredEvent, merged: StoredEvent) -> int:
    """The flags of an order that was told again; a withdrawal from what a page alone told is none from a server's.

    An end or a refund that is told alone does not say what kind of order it is.
    """
    bits = row.flags & ~flags.UNCONFIRMED | new.query.flags if new.by_page else new.query.flags
    if orders.rank_of(old) > Rank.PAGE and not orders.is_of_order(new.event):
        bits = row.flags
    bits &= ~(flags.DENIED | flags.PENDING)
    withdrawn = row.flags & flags.WITHDRAWN if new.by_page or orders.rank_of(old) > Rank.PAGE else 0
    if merged.marketing == "denied" and not withdrawn:
        bits |= flags.DENIED
    return bits | withdrawn | (flags.PENDING if merged.marketing == "pending" else 0)


def same_answer(before: Match, after: Match) -> bool:
    """Whether callers would be answered the same."""
    return (before.attributed, before.click, before.confidence, before.method, before.reason) == (
        after.attributed,
        after.click,
        after.confidence,
        after.method,
        after.reason,
    )


def row_of(
    event_id: int,
    store: int,
    dedup_k: int | None,
    query: Query,
    event: StoredEvent,
    found: Match,
    state: CapiState,
    revision: int,
) -> ConversionRow:
    """An event with its answer, as it is stored."""
    return ConversionRow(
        event_id,
        store,
        event.ts,
        event.received,
        event.event_type,
        dedup_k,
        query.fbc_k if query.fbclid_k is None else query.fbclid_k,
        query.visitor_k,
        query.fbp_k,
        query.ip_k,
        query.ua_k,
        query.fp_k,
        query.ua_class,
        query.flags,
        found.click if found.attributed else None,
        found.confidence if found.attributed else None,
        found.method,
        revision,
        int(state),
        _encode(event),
        _encode(found),
    )


def second_click(query: Query, row: ConversionRow) -> set[int]:
    """The click id inside `fbc` where the event also names another: the row is found by that one."""
    return set() if query.fbc_k in (None, row.fbclid_k) else {query.fbc_k}
