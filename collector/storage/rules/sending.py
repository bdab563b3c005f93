"""What may be sent of a queue now, what ends instead, what came of a request: decided from rows, for every engine."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from msgspec import Struct

from collector.core.capi.states import CapiState
from collector.core.flags import DENIED, WITHDRAWN
from collector.core.retry import may_resend

FRESH_MS: Final = 15 * 60_000
UNSURE_MS: Final = 5 * 60_000
_UNWANTED: Final = DENIED | WITHDRAWN

DOUBT_REASON: Final = (
    "in doubt: Meta may have taken it over 47 hours ago and would count it twice now; "
    "`collector replay` sends it all the same"
)
UNSURE_REASON: Final = "waits until the clock is sure: it says that the event is too old, and is not believed yet"
EXPIRED_REASON: Final = "waited longer than Meta takes (7 days after the event)"
_WITHDRAWN_REASON: Final = "consent withdrawn"
_BARE_REASON: Final = "its payload is no longer kept"
AMBIGUOUS: Final = "ambiguous"  # the day's count of events that are sent again though Meta may have them
INTERRUPTED: Final = "the courier ended before Meta's answer was written down"

# id, attempts, doubt_at, deadline, test_code, body, flags of the conversion
Waiting = tuple[int, int, int | None, int, str | None, bytes | None, int | None]


class Claimed(Struct, frozen=True):
    """One event of a batch: its row, its bytes, and what is known of earlier attempts."""

    id: int
    attempts: int
    doubt_at: int | None
    deadline: int
    test_code: str | None
    body: bytes


class Claim(Struct, frozen=True):
    """A batch in flight under its request's lease."""

    request: int
    pixel: int
    events: list[Claimed]

    @property
    def ids(self) -> list[int]:
        """Its events', in their order."""
        return [event.id for event in self.events]


class Report(Struct, frozen=True, kw_only=True):
    """What came of one request; `outcome` is a word of core/capi/verdicts.py."""

    outcome: str
    http_status: int | None = None
    code: int | None = None
    subcode: int | None = None
    trace_id: str | None = None
    message: str | None = None
    took_ms: int | None = None


class PixelHealth(Struct, frozen=True):
    """How a pixel's queue stands, as the console and `status` show it."""

    state: str = "open"
    since: int = 0
    until: int | None = None
    reason: str | None = None
    way_hash: bytes | None = None  # of the token, version and address that were refused


class Ending(NamedTuple):
    """Events that end without being sent."""

    ids: list[int]
    state: CapiState
    reason: str


class Sorted(NamedTuple):
    """A batch's rows: what goes out now, what ends, and what waits until the clock is sure."""

    events: list[Claimed]
    endings: tuple[Ending, ...]
    unsure: list[int]  # over by one clock, and not by another


def sort_out(rows: Iterable[Waiting], now: int, trusted: int) -> Sorted:
    """What of these rows may be sent at `now` (ms), in their order; what is left out for its test code just waits.

    `trusted`: the now by which an event's time may end for good (core/trusted.py).
    """
    events: list[Claimed] = []
    late: list[int] = []
    bare: list[int] = []
    doubtful: list[int] = []
    unwanted: list[int] = []
    unsure: list[int] = []
    for number, attempts, doubt_at, deadline, code, body, flags in rows:
        if flags is not None and flags & _UNWANTED:  # consent is asked again at sending
            unwanted.append(number)
        elif deadline < trusted:
            late.append(number)
        elif body is None:
            bare.append(number)
        elif not may_resend(doubt_at, trusted):
            doubtful.append(number)
        elif deadline < now or not may_resend(doubt_at, now):
            unsure.append(number)
        elif not events or code == events[0].test_code:  # one request carries one test_event_code
            events.append(Claimed(number, attempts, doubt_at, deadline, code, body))
    endings = (
        Ending(unwanted, CapiState.SKIPPED, _WITHDRAWN_REASON),
        Ending(late, CapiState.EXPIRED, EXPIRED_REASON),
        Ending(bare, CapiState.REJECTED, _BARE_REASON),
        Ending(doubtful, CapiState.REJECTED, DOUBT_REASON),
    )
    return Sorted(events, endings, unsure)


def halves(claim: Claim) -> tuple[list[int], list[int]]:
    """Of a batch of which Meta counted fewer: what goes once more, and what went twice by now and counts as sent."""
    again = [event.id for event in claim.events if event.doubt_at is None]
    return again, [event.id for event in claim.events if event.doubt_at is not None]
