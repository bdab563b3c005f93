"""Which stores and days does a page show? What its address asks for, and the form on top that asks for others."""

from __future__ import annotations

from typing import Final, NamedTuple

from collector.console.shell import Desk
from collector.storage.reports.folds import DAY_MS

SPANS: Final = (1, 7, 30)  # days to choose from
_USUAL: Final = 7


class Choice(NamedTuple):
    """The stores in question, by row number, and the first moment (ms, the begin of a UTC day) of the days shown."""

    names: dict[int, str]
    store: str
    wanted: set[int]
    days: int
    since: int


def offered(days: int) -> int:
    """The days that an address asks for, where they are offered; else a week."""
    return days if days in SPANS else _USUAL


async def choose(desk: Desk, store: str, days: int) -> Choice:
    """One store or (empty) all, and the last `days`, today among them."""
    names = await desk.stores()
    wanted = {number for number, name in names.items() if not store or name == store}
    return Choice(names, store, wanted, days, (desk.clock() // DAY_MS - days + 1) * DAY_MS)
