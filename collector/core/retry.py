"""When is a pixel asked again after a fault? Decisions are values; the clock and the dice are passed in.

Full jitter: uniform(0, min(cap, base·2ⁿ)), so that many couriers do not come back together. A breaker opens after five
faults in a row, or when more than half of the last twenty requests failed; open, it lets one probe of at most ten
events through at a time. A throttled pixel also sends slower: half the rate, then ten per cent more each good minute.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct
from msgspec.structs import replace

OPEN_AFTER: Final = 5
WINDOW: Final = 20
PROBE_EVENTS: Final = 10
_FLOOR_MS: Final = 100
_SLOWEST: Final = 100.0  # events a second: a full batch each ten seconds; Retry-After stops it where Meta wants less
_FIRST_OPEN_MS: Final = 5_000
_UNBOUND: Final = 5_000.0  # events a second that a pace no longer binds
# Meta removes duplicates within 48 hours of the first receipt (deduplicate); an hour is kept for clocks and queues.
DOUBT_WINDOW_MS: Final = 47 * 3_600_000
_MINUTE_MS: Final = 60_000
LONGEST_PROBE_MS: Final = 30 * _MINUTE_MS


class Backoff(Struct, frozen=True):
    base_ms: int = 1_000
    cap_ms: int = 300_000


class Breaker(Struct, frozen=True):
    """A pixel's health of late. `until`: nothing is sent before (ms)."""

    faults: int = 0  # in a row
    recent: tuple[bool, ...] = ()  # True: failed; the last WINDOW requests
    until: int = 0
    open: bool = False


class Pace(Struct, frozen=True):
    """How many events a second a throttled pixel gets; None: as many as it takes."""

    per_second: float | None = None
    raised_at: int = 0


def backoff_ms(faults: int, dice: float, terms: Backoff) -> int:
    """The wait before the next try after `faults` in a row; `dice` is uniform in [0, 1)."""
    ceiling = min(terms.cap_ms, terms.base_ms * 2 ** min(faults, 20))
    return max(_FLOOR_MS, int(dice * ceiling))


def after_fault(breaker: Breaker, now: int, dice: float, terms: Backoff, *, asked_ms: int | None = None) -> Breaker:
    """The breaker after a failed request. `asked_ms` is what Meta asks us to wait, which no jitter shortens."""
    faults = breaker.faults + 1
    recent = (*breaker.recent, True)[-WINDOW:]
    is_open = faults >= OPEN_AFTER or (len(recent) == WINDOW and sum(recent) > WINDOW // 2)
    wait = backoff_ms(faults - 1, dice, terms)
    if is_open:
        wait = max(wait, min(_FIRST_OPEN_MS, terms.cap_ms, terms.base_ms * 5))
    if asked_ms is not None:
        wait = max(wait, asked_ms + int(dice * min(asked_ms, terms.cap_ms) * 0.1))
    return Breaker(faults, recent, max(breaker.until, now + wait), is_open)


def lone_wait_ms(attempts: int, terms: Backoff) -> int:
    """The wait of one event that something before Meta does not let pass, while others do: they wait with it else."""
    return backoff_ms(attempts, 1.0, terms)


def probe_wait_ms(blocked_for_ms: int) -> int:
    """How long a blocked queue waits for its next probe: 1, 2, 4, … 30 minutes, from how long it has been tried."""
    return min(max(_MINUTE_MS, blocked_for_ms + _MINUTE_MS), LONGEST_PROBE_MS)


def after_success(breaker: Breaker) -> Breaker:
    """One answer is enough to close it; a window that is still mostly red is forgotten with it."""
    recent = () if breaker.open else (*breaker.recent, False)[-WINDOW:]
    return Breaker(0, recent, 0, False)


def slowed(pace: Pace, recent_per_second: float, now: int) -> Pace:
    """Half of what was sent before the throttle. Refusals of one minute halve it once: they are one complaint."""
    if pace.per_second is None:
        return Pace(max(_SLOWEST, recent_per_second / 2), now)
    if now - pace.raised_at < 60_000:
        return pace
    return Pace(max(_SLOWEST, pace.per_second / 2), now)


def recovered(pace: Pace, now: int) -> Pace:
    """Ten per cent more after each good minute; unlimited again once it no longer binds."""
    if pace.per_second is None or now - pace.raised_at < 60_000:
        return pace
    raised = pace.per_second * 1.1
    return Pace() if raised > _UNBOUND else replace(pace, per_second=raised, raised_at=now)


def may_resend(doubt_at: int | None, now: int) -> bool:
    """Whether an event that Meta may have taken at `doubt_at` can be sent again without being counted twice."""
    return doubt_at is None or now - doubt_at < DOUBT_WINDOW_MS
