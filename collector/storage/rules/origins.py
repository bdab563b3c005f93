"""Where an order counts in what is known of a store's orders: proven by an ad's click, not proven, or only as one."""

from __future__ import annotations

from typing import Final

from collector.core import flags
from collector.core.events import StoredEvent
from collector.core.learning import FUNNEL
from collector.exchange.naming import kind_of
from collector.exchange.rows import ConversionRow

_HOUR_MS: Final = 3_600_000
_PROOFS: Final = frozenset({"click_id", "fbclid", "visitor_id", "fbp", "fbc_unseen"})
_UNCOUNTED: Final = flags.INELIGIBLE | flags.UNCONFIRMED
PROVEN, UNPROVEN, ALL = 0, 1, 2

Series = tuple[int, int]  # store, kind
Place = tuple[Series, int, int]  # series, hour, and whether proof names the order


def place_of(row: ConversionRow, event: StoredEvent) -> Place | None:
    """Where an event counts; nowhere a renewal, a step of the funnel, what a page alone told, a refusal."""
    if (
        row.flags & _UNCOUNTED
        or event.renewal_of is not None
        or event.refund_of is not None
        or event.event_type in FUNNEL
    ):
        return None
    cookies = row.visitor_k is not None or row.fbp_k is not None
    proof = PROVEN if row.method in _PROOFS else UNPROVEN if cookies else ALL
    return (row.store, kind_of(row.event_type)), row.ts // _HOUR_MS, proof
