"""Who was seen where: returns of visitors to an address, and addresses that are several people's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from typing import NamedTuple

from msgspec import Struct

from collector.core.matching.model import bucket

_WEEK_MS = 7 * 86_400_000


class Hit(NamedTuple):
    """A visitor was here (ms), from an address and its network, by their names."""

    ts: int
    visitor: int
    address: int
    net: int | None


class Sighting(Struct, frozen=True, array_like=True):
    """A visitor seen again after `bucket`'s delay, first in network `net`; `same`: at the same address."""

    net: int
    bucket: int
    same: bool


def seen_again(hits: Iterable[Hit], since: int) -> list[Sighting]:
    """Of hits in time order the returns of `since` (ms) or later, within a week; each visitor's once for each delay."""
    last: dict[int, Hit] = {}
    found: dict[tuple[int, int], Sighting] = {}
    for hit in hits:
        before = last.get(hit.visitor)
        if before is not None and before.net is not None and hit.ts >= since and hit.ts - before.ts <= _WEEK_MS:
            b = bucket(hit.ts - before.ts)
            found.setdefault((hit.visitor, min(b, 2)), Sighting(before.net, b, before.address == hit.address))
        last[hit.visitor] = hit
    return list(found.values())


class Crowds(Struct, frozen=True):
    """How many visitors were seen on addresses in 30 days, where it was several; see Model.crowds."""

    visitors: dict[int, int]
    clickers_per_visitor: float


SEVERAL = 3  # visitors from which an address is no single person's
MOST_CROWDS = 3_000


def crowds_of(seen: Iterable[tuple[int, int]], clickers: Collection[int]) -> Crowds:
    """From (address, visitor) of every hit, repeats too, and the visitors who clicked."""
    once = set(seen)
    everybody = {visitor for _, visitor in once}
    on = Counter(address for address, _ in once)
    several = sorted(((n, a) for a, n in on.items() if n >= SEVERAL), reverse=True)[:MOST_CROWDS]
    return Crowds({a: n for n, a in several}, len(everybody & set(clickers)) / max(1, len(everybody)))
