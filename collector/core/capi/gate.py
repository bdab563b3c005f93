"""May an event go to Meta now, later or never? Asked at intake, and again when its order or its consent changes."""

from __future__ import annotations

from typing import Final, Literal

from msgspec import Struct

from collector.core.capi.states import CapiState
from collector.core.events import StoredEvent

PAID: Final = frozenset({"paid", "completed", "fulfilled", "shipped"})
ENDED: Final = frozenset({"cancelled", "canceled", "refunded", "voided", "failed"})


def has_ended(status: str | None) -> bool:
    """Whether an order with this status brings nothing any more, however it is written."""
    return status is not None and status.lower() in ENDED


class Terms(Struct, frozen=True):
    """What a store and the installation say about sending."""

    mode: Literal["live", "dry_run", "off"] = "live"
    send_purchase_on: Literal["order", "paid"] = "order"
    browser_purchases: Literal["hold", "send"] = "hold"


class Gate(Struct, frozen=True):
    """QUEUED, HELD, SKIPPED or DISABLED, with the reason in plain words."""

    state: CapiState
    reason: str | None = None


_OPEN: Final = Gate(CapiState.QUEUED)


def decide(event: StoredEvent, terms: Terms, pixels: int) -> Gate:
    """Whether `event` is queued, held or never sent; `pixels` counts the pixels whose allow list takes it."""
    if terms.mode == "off":
        return Gate(CapiState.DISABLED, "delivery is switched off ([meta] mode)")
    if pixels == 0:
        return Gate(CapiState.DISABLED, "no pixel of this store takes this event")
    if (reason := _never(event)) is not None:
        return Gate(CapiState.SKIPPED, reason)
    if event.marketing == "pending":
        return Gate(CapiState.HELD, "consent pending")
    if event.event_type == "Purchase":
        return _purchase(event, terms)
    return _OPEN


def why_unqueued(event: StoredEvent, state: CapiState) -> str | None:
    """Why an event that was in no pixel's queue stands in `state`, in plain words; None where the state says it all."""
    if state is CapiState.DISABLED:
        return "no pixel of this store takes this event, or delivery is switched off ([meta] mode)"
    return _never(event) if state is CapiState.SKIPPED else None


def _never(event: StoredEvent) -> str | None:
    """Why the event itself forbids that it is ever sent."""
    if event.bot is not None:
        return f"not a person: {event.bot}"
    if event.marketing == "denied":
        return "consent denied"
    if event.test and event.test_event_code is None:
        return "a test order without testEventCode"
    if event.order_status is not None and has_ended(event.order_status):
        return f"the order was {event.order_status.lower()} before it was sent"
    return None


def _purchase(event: StoredEvent, terms: Terms) -> Gate:
    if event.unconfirmed and terms.browser_purchases == "hold":
        return Gate(CapiState.HELD, "unconfirmed: only a page has told us of this order")
    if terms.send_purchase_on == "paid" and (event.order_status or "").lower() not in PAID:
        return Gate(CapiState.HELD, "waiting for orderStatus paid")
    return _OPEN
