"""Which states can an event's delivery be in, and what are they called in the contract (`capiStatus`)?"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import Final

from collector.core import times


class CapiState(IntEnum):
    """One event for one pixel. The first two are in the queue, HELD waits for a decision, the rest are final.

    A pixel whose token or permission is refused blocks its queue, not its events: they stay QUEUED or RETRYING.
    """

    QUEUED = 0
    RETRYING = 1
    HELD = 2
    SENT = 10
    REJECTED = 11
    EXPIRED = 12
    SKIPPED = 13
    DRY_RUN = 14
    DISABLED = 15


OPEN: Final = frozenset({CapiState.QUEUED, CapiState.RETRYING, CapiState.HELD})
NAMES: Final[dict[int, str]] = {state.value: state.name.lower() for state in CapiState}
BY_NAME: Final[dict[str, CapiState]] = {state.name.lower(): state for state in CapiState}

# With several pixels, the answer shows what still needs somebody's attention: what is on its way, then what failed.
_PRECEDENCE: Final = (
    CapiState.RETRYING,
    CapiState.QUEUED,
    CapiState.HELD,
    CapiState.REJECTED,
    CapiState.EXPIRED,
    CapiState.SENT,
    CapiState.DRY_RUN,
    CapiState.SKIPPED,
    CapiState.DISABLED,
)


def kept_until(deadline: int) -> str:
    """What is at stake while a queue stands still, in words; `deadline` (ms) is of the first event that waits."""
    return f"Events are kept and go out by themselves then; the first must reach Meta by {times.text(deadline)}"


def name_of(state: int) -> str:
    """The contract's `capiStatus` of a stored state."""
    return NAMES[state]


def combine(states: Iterable[int]) -> CapiState:
    """One state for an event that goes to several pixels; DISABLED when it goes to none."""
    seen = set(states)
    return next((state for state in _PRECEDENCE if state in seen), CapiState.DISABLED)
