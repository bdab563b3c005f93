"""May an event go to Meta now, later or never? Asked at intake, and again when its order or its consent changes."""

from __future__ import annotations

from typing import Final, Literal

from msgspec import Struct

from collector.core import amounts, statuses
from collector.core.capi.states import CapiState
from collector.core.events import StoredEvent


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


_UNCONFIRMED: Final = "unconfirmed: only a page has told us of this order"


def _never(event: StoredEvent) -> str | None:
    """Why the event itself forbids that it is ever sent."""
    if event.bot is not None:
        return f"not a person: {event.bot}"
    if event.marketing == "denied":
        return "consent denied"
    if event.unsent is not None:
        return f"kept and not sent: {event.unsent}"
    if event.test and event.test_event_code is None:
        return "a test order without testEventCode"
    if event.note_of is not None:
        return "a page's telling of an order that others tell: only a note"
    return _ended(event)


def _ended(event: StoredEvent) -> str | None:
    """Why an order has nothing to tell Meta before anything was sent (O5)."""
    status = statuses.read(event.order_status)
    if status is not None and status in statuses.ENDS:
        return f"the order was {status.word} before it was sent"
    if event.event_type == "Purchase" and event.value is not None and not amounts.rounded(event.value, event.currency):
        return "the order is worth 0: nothing was bought, or nothing is left of it"
    return None


def _purchase(event: StoredEvent, terms: Terms) -> Gate:
    if event.unconfirmed and terms.browser_purchases == "hold":
        return Gate(CapiState.HELD, _UNCONFIRMED)
    if terms.send_purchase_on == "paid" and not statuses.is_paid(event.order_status):
        return Gate(CapiState.HELD, "waiting for orderStatus paid")
    return _OPEN
