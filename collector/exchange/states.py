"""What is known of a stored event: its row, its match, how its delivery stands."""

from __future__ import annotations

from msgspec import Struct

from collector.core.capi.states import CapiState
from collector.core.events import StoredClick, StoredEvent
from collector.core.matching import Match
from collector.exchange.rows import ConversionRow


class EventState(Struct, frozen=True, gc=False):
    """A stored event, its match, and how its delivery stands."""

    row: ConversionRow
    event: StoredEvent
    match: Match
    state: CapiState
    reason: str | None
    click: StoredClick | None


class Delivery(Struct, frozen=True, rename="camel"):
    """One pixel's part of a conversion's delivery."""

    pixel: str
    status: str
    reason: str | None
    attempts: int
    settled: int | None


class Attempt(Struct, frozen=True, rename="camel"):
    """One request to Meta that this conversion was in. `at` in ms."""

    pixel: str
    at: int
    outcome: str
    http_status: int | None
    code: int | None
    subcode: int | None
    trace_id: str | None
    message: str | None


class EventResult(Struct, array_like=True, tag=1, frozen=True, gc=False):
    """Where the event is, what is known of it now, and whether it was here before; `before`: as this one found it."""

    state: EventState
    duplicate: bool = False
    before: ConversionRow | None = None
