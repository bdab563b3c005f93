"""Who was seen where: the hits of visitors by address and network, for what a night learns of addresses.

The network's name needs the raw address, which is kept for a week, and the key of names. Where either is missing, only
crowds are learnt.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct

from collector.core import addresses
from collector.core.keyed import KeyedHash
from collector.core.sightings import Crowds, Hit, Sighting, crowds_of, seen_again

MOST_HITS: Final = 200_000  # of clicks, and as many of events: the newest; a second of reading
_MONTH_MS: Final = 30 * 86_400_000


class Seen(NamedTuple):
    """A visitor at an address, by their names; `ip`: raw, while it is kept."""

    ts: int
    visitor: int
    address: int
    ip: str | None


class _Address(Struct):
    """The one field of a stored event that tells its network."""

    ip: str | None = None


_decode = msgspec.msgpack.Decoder(_Address).decode


def address_of(body: bytes) -> str | None:
    """The raw address of a stored event, while it is kept."""
    return _decode(body).ip


def of_addresses(
    clicks: Iterable[Seen], events: Iterable[Seen], names: KeyedHash | None, store: int, since: int, now: int
) -> tuple[list[Sighting], Crowds]:
    """Visitors seen again since then (event time, ms), and the addresses on which several were seen in 30 days."""
    clicked, told = (list(_hits(rows, names, store, now)) for rows in (clicks, events))
    hits = sorted([*clicked, *told])
    crowds = crowds_of(hits, {hit.visitor for hit in clicked})
    return seen_again(hits, since), crowds


def _hits(rows: Iterable[Seen], names: KeyedHash | None, store: int, now: int) -> Iterator[Hit]:
    known: dict[str, int] = {}
    for ts, visitor, address, ip in rows:
        if now - _MONTH_MS <= ts <= now:
            yield Hit(ts, visitor, address, _network(names, store, ip, known) if ip else None)


def _network(names: KeyedHash | None, store: int, ip: str, known: dict[str, int]) -> int | None:
    if names is None:
        return None
    network = addresses.truncate(ip)
    if network not in known:
        known[network] = names.name(store, "net", network)
    return known[network]
