"""Who was seen where: returns of visitors to an address, and addresses that are several people's."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

from msgspec import Struct

from collector.core.matching.model import DEFAULT_MODEL, bucket

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
    """Addresses on which several visitors were seen in 30 days: how many, and how bunched; see Model.crowds."""

    visitors: dict[int, int]
    clickers_per_visitor: float
    bunched: dict[int, float] = {}
    bunched_usual: float = DEFAULT_MODEL.bunched_usual


SEVERAL = 3  # visitors from which an address is no single person's
MOST_CROWDS = 3_000
_MOST_HITS = 400  # of an address that are looked at, evenly taken
_NEAR_MS, _FAR_MS = 3_600_000, 6 * 3_600_000  # nearer than an hour two visitors may be one person's two browsers
_OF_ONE = 30.0  # pairs that one address counts for in what is usual
# Pairs expected so near that the usual is worth beside an address's own, and what is assumed beside the usual.
_STRENGTH, _USUAL_STRENGTH = 2.0, 10.0
_MOST_BUNCHED = 4.0


def crowds_of(hits: Iterable[Hit], clickers: Collection[int]) -> Crowds:
    """From every hit of 30 days, repeats too, in time order, and the visitors who clicked."""
    on: dict[int, list[Hit]] = {}
    for hit in hits:
        on.setdefault(hit.address, []).append(hit)
    seen = {address: {hit.visitor for hit in own} for address, own in on.items()}
    everybody: set[int] = set().union(*seen.values())
    several = sorted(((len(who), a) for a, who in seen.items() if len(who) >= SEVERAL), reverse=True)[:MOST_CROWDS]
    times = [hit.ts for own in on.values() for hit in (own[0], own[-1])]
    span = max(times, default=0) - min(times, default=0)
    near = {a: _near(on[a], span) for _, a in several}
    usual = _usual(near.values())
    bunched = {a: _bounded((met + _STRENGTH * usual) / (due + _STRENGTH)) for a, (met, due, _) in near.items()}
    share = len(everybody & set(clickers)) / max(1, len(everybody))
    return Crowds({a: n for n, a in several}, share, bunched, usual)


class _Near(NamedTuple):
    """Of pairs of visitors on one address: how many came 1 to 6 hours apart, how many would if evenly, how many are."""

    met: int
    due: float
    pairs: float


def _near(hits: list[Hit], span: int) -> _Near:
    some = hits[:: -(-len(hits) // _MOST_HITS)]
    met = first = 0
    for at, hit in enumerate(some):
        while hit.ts - some[first].ts > _FAR_MS:
            first += 1
        met += sum(hit.ts - one.ts >= _NEAR_MS and one.visitor != hit.visitor for one in some[first:at])
    pairs = len(some) * (len(some) - 1) / 2
    return _Near(met, pairs * (_within(_FAR_MS, span) - _within(_NEAR_MS, span)), pairs)


def _within(ms: int, span: int) -> float:
    """The share of pairs, evenly spread over a span, that are no further apart."""
    return 1 - (1 - ms / span) ** 2 if ms < span else 1.0


def _usual(near: Iterable[_Near]) -> float:
    """What is usual; each address has a say, and none many."""
    met, due = _USUAL_STRENGTH * DEFAULT_MODEL.bunched_usual, _USUAL_STRENGTH
    for one in near:
        weight = min(1.0, _OF_ONE / one.pairs)
        met, due = met + weight * one.met, due + weight * one.due
    return _bounded(met / due)


def _bounded(times: float) -> float:
    return min(max(times, 1.0), _MOST_BUNCHED)
