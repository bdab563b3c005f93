"""Which dead letters can go back into the queue, and why can the others not?"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from collector.core.capi.states import CapiState

REPLAYABLE: Final = (CapiState.REJECTED, CapiState.EXPIRED, CapiState.DRY_RUN)
_NEVER: Final = {
    CapiState.SENT: "Meta has taken it",
    CapiState.SKIPPED: "it must not be sent",
    CapiState.DISABLED: "delivery was switched off when it came",
}


class Replayed(Struct, frozen=True):
    """One event for one pixel: queued again, or `refused` with the reason."""

    conversion: int
    pixel: str
    state: str  # before
    refused: str | None


def why_not(state: int, deadline: int, kept: bool, reason: str | None, now: int) -> str | None:
    """Why an event cannot go again; None where it can. `kept`: its payload is; times in ms."""
    if state not in REPLAYABLE:
        return _NEVER.get(CapiState(state), "it is still on its way")
    if deadline < now:
        return "Meta would refuse it: it is older than Meta takes"
    if not kept:
        return f"it was refused before it was sent, and would be again: {reason or 'its payload is no longer kept'}"
    return None
