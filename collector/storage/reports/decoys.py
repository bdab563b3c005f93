"""How often do clicks that cannot be the cause look like it: counts of the nightly step, no label needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Set
from typing import Final

from msgspec import Struct

from collector.storage.reports.folds import DAY_MS
from collector.storage.reports.questions import Reading, named

DAYS: Final = 31
NAMES: Final = ("decoy.orders", "decoy.80", "decoy.90")
SQL: Final = named("decoys", "SELECT store, name, n FROM counter WHERE day >= ? AND name IN (?, ?, ?)")


class Decoys(Struct, frozen=True):
    """Orders tried against clicks made 8 to 15 days later, and how many linked at confidence 80 and at 90."""

    orders: int
    at_80: int
    at_90: int


async def counted(reader: Reading, now: int, stores: Set[int]) -> Decoys:
    """The counts of the last 31 days for `stores`."""
    found: Counter[str] = Counter()
    for store, name, n in await reader.rows(SQL, now // DAY_MS - DAYS, *NAMES):
        if store in stores:
            found[name] += n
    return Decoys(*(found[name] for name in NAMES))
