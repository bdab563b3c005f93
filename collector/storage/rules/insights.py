"""How the readings of an ad account went."""

from __future__ import annotations

from msgspec import Struct


class Reading(Struct, frozen=True):
    """When the account was last read whole (ms), and why it is not read now, since when."""

    at: int | None = None
    fault: str | None = None
    fault_at: int | None = None
