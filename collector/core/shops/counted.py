"""How a shop's orders are counted: each is in one class, and the classes make up all of them (C1)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final, Literal
from zoneinfo import ZoneInfo

from msgspec import Struct

from collector.core.capi.states import CapiState

# By which ways an order was told.
WEBHOOK: Final = 1
PULL: Final = 2
FILE: Final = 4
DAYS: Final = 28  # that metrics and the console look back
Class = Literal["sent", "held", "ignored", "waiting", "failed", "missing"]
CLASSES: Final[tuple[Class, ...]] = ("sent", "held", "ignored", "waiting", "failed", "missing")
_CLASS: Final[dict[int, Class]] = {
    CapiState.QUEUED: "waiting",
    CapiState.RETRYING: "waiting",
    CapiState.HELD: "held",
    CapiState.SENT: "sent",
    CapiState.REJECTED: "failed",
    CapiState.EXPIRED: "failed",
    CapiState.SKIPPED: "ignored",
    CapiState.DRY_RUN: "ignored",
    CapiState.DISABLED: "ignored",
}


class Line(Struct, kw_only=True):
    """The sums of one store, pixel, currency, and day (or reason, or channel: `day` is then that word)."""

    store: str
    pixel: str
    day: str
    currency: str
    orders: int = 0
    sent: int = 0
    held: int = 0
    ignored: int = 0
    waiting: int = 0
    failed: int = 0
    missing: int = 0
    accuracy: float | None = None  # percent; None: there were no orders
    delivered: float | None = None
    basis: str = ""


def class_of(state: int | None, has_reason: bool) -> Class:
    """Which class an order is in: by its event's state, else by whether we know why there is none."""
    if state is None:
        return "ignored" if has_reason else "missing"
    return _CLASS.get(state, "missing")


def share(part: int, whole: int) -> float | None:
    """Percent, cut (never rounded up to 100) to two digits; None of nothing."""
    return part * 10_000 // whole / 100 if whole else None


def day_of(ms: int, zone: ZoneInfo) -> str:
    """The day of the shop on which a moment falls."""
    return datetime.fromtimestamp(ms / 1000, UTC).astimezone(zone).strftime("%Y-%m-%d")


def totals(lines: Iterable[Line]) -> Line:
    """One line of many."""
    whole = Line(store="", pixel="", day="", currency="")
    for line in lines:
        whole.orders += line.orders
        for name in CLASSES:
            setattr(whole, name, getattr(whole, name) + getattr(line, name))
    whole.accuracy = share(whole.sent + whole.held + whole.ignored, whole.orders)
    whole.delivered = share(whole.sent, whole.orders - whole.ignored)
    return whole
