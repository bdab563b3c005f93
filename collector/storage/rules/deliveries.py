"""A stored event's rows in the outbox, one for each pixel: what is in them, and how the event stands by all of them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from msgspec import Struct, structs

from collector.core.capi.payload import BuiltEvent
from collector.core.capi.states import CapiState, combine
from collector.core.events import StoredEvent
from collector.exchange.stores import Store

PURCHASE_LANE: Final = 0
OTHER_LANE: Final = 1
# An event may wait so much of the configured time for company; the rest is for noticing it and for the request.
_WAIT_SHARE: Final = 0.75


class OutboxRow(Struct, frozen=True):
    """One event for one pixel. `payload` is the encoded event, empty where there is nothing to send."""

    conversion: int
    pixel: int
    state: int
    lane: int
    created: int
    due: int
    deadline: int
    payload: bytes
    reason: str | None = None
    test_code: str | None = None


class Delivery(Struct, frozen=True):
    """How an event stands over all its pixels; `reason` is the first one that a row states."""

    state: CapiState
    reason: str | None


def lane_of(event_type: str) -> int:
    """Purchases first."""
    return PURCHASE_LANE if event_type == "Purchase" else OTHER_LANE


def due_at(now: int, wait_seconds: float) -> int:
    """The moment (ms) at which a queued event goes out with whatever company it has."""
    return now + int(wait_seconds * 1000 * _WAIT_SHARE)


def row_of(
    conversion: int,
    pixel: int,
    event_type: str,
    built: BuiltEvent,
    *,
    now: int,
    wait_seconds: float,
    held: tuple[CapiState, str | None] | None = None,
    unconfirmed: bool = False,
    test_code: str | None = None,
) -> OutboxRow:
    """The outbox row of a built event. `held` is the gate's answer when that is not QUEUED (core/capi/gate.py).

    An `unconfirmed` one is held though Meta would refuse it: nobody knows yet whether there is anything to send (T6).
    """
    state, reason = built.state, built.refused
    if held is not None and (built.refused is None or unconfirmed):
        state, reason = held
    due = due_at(now, wait_seconds)
    return OutboxRow(
        conversion, pixel, int(state), lane_of(event_type), now, due, built.deadline, built.payload, reason, test_code
    )


def values_of(number: int, item: OutboxRow) -> tuple[int | str | None, ...]:
    """The row in the order of the table's columns."""
    settled = None if item.state <= CapiState.HELD else item.created
    return (
        number,
        item.conversion,
        item.pixel,
        item.state,
        item.lane,
        item.created,
        item.due,
        item.deadline,
        0,  # attempts
        0,  # doubts
        None,  # doubt_at
        settled,
        None,  # request
        item.test_code,
        item.reason,
    )


def standing_of(rows: Collection[tuple[int, str | None]]) -> Delivery | None:
    """How an event stands by the state and the reason of each of its rows; None where it has none."""
    if not rows:
        return None
    return Delivery(combine(state for state, _ in rows), next((reason for _, reason in rows if reason), None))


def as_of_payment(event: StoredEvent, store: Store, now: int) -> StoredEvent:
    """The event at the time of its payment, where the store sends it then (O4); windows keep the order's own time."""
    if event.paid_at is None or store.terms.send_purchase_on != "paid" or event.event_type != "Purchase":
        return event
    return structs.replace(event, ts=event.paid_at, received=now)
