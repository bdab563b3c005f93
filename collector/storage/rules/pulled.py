"""What a pull has found, and how far it came."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

MOST_WAITING: Final = 2_000  # rows; a pull waits for the edge then, so that neither memory nor disk grows with the shop


class Found(Struct, frozen=True):
    """An order to be put in."""

    platform: str
    topic: str
    body: bytes


class Pulled(Struct, frozen=True):
    """How far a shop was pulled: all that changed from `since` to `watermark` is here (ms)."""

    since: int
    watermark: int
    at: int
    fault: str | None
