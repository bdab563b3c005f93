"""Where does an event stand with Meta, in the words of who sells? The parts that a bar of orders has."""

from __future__ import annotations

from typing import Final

from collector.core.capi.states import CapiState

# In the bar's order: key, name, tone.
PARTS: Final = (
    ("sent", "sent", "good"),
    ("doubt", "sent, in doubt", "good"),
    ("waiting", "waiting", "warn"),
    ("held", "held", "warn"),
    ("on purpose", "left out on purpose", ""),
    ("refused", "refused by Meta", "bad"),
    ("expired", "expired", "bad"),
)
# What Meta has, or what nobody meant it to have: the accuracy's upper half.
GOOD: Final = ("sent", "doubt", "on purpose")
_PART_OF: Final[dict[int, str]] = {
    CapiState.SENT: "sent",
    CapiState.QUEUED: "waiting",
    CapiState.RETRYING: "waiting",
    CapiState.HELD: "held",
    CapiState.REJECTED: "refused",
    CapiState.EXPIRED: "expired",
}


def part_of(state: int, doubt: bool) -> str:
    """Which part a delivery is."""
    if state == CapiState.SENT and doubt:
        return "doubt"
    return _PART_OF.get(state, "on purpose")
