"""A checked click as the keeper takes it: its row but for the id, every value that identifies somebody named."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct, structs

from collector.core import addresses, canonical, flags
from collector.core.capi.identifiers import public_normalised
from collector.core.events import StoredClick
from collector.core.intake import CheckedClick
from collector.core.keyed import KeyedHash
from collector.core.remembered import remembered
from collector.core.useragents import classify
from collector.exchange.rows import ClickRow

_encode = msgspec.msgpack.Encoder().encode


_decode = msgspec.msgpack.Decoder(StoredClick).decode


_NAMELESS = (None, None, None, None, None, 0)  # visitor, fbp, address, user agent, fingerprint; class of the user agent


class NewClick(Struct, array_like=True, tag=0, gc=False):
    """A click on its way to the writer: everything of its row but the id."""

    row: tuple[Any, ...]  # the columns after id, in order
    network: tuple[str | None, str | None]  # raw address (by the storage rule) and user agent
    visitor: str | None
    fbclid: str


class ClickResult(Struct, array_like=True, tag=0, frozen=True, gc=False):
    """Where the click is, and whether it was here before. `ts`: its first sighting."""

    id: int
    ts: int
    duplicate: bool
    before: ClickRow | None = None  # as it was, if this report has told more of it than its time


def prepare(names: KeyedHash, store: int, click: CheckedClick, store_ip: str) -> NewClick:
    """Name and encode a checked click, outside the writer's thread. A refusal of consent leaves no key behind."""
    stored = click.stored
    named = _namers(names, store)
    if click.flags & flags.DENIED:
        own = (store, click.ts, click.ts, click.received, named.fbclid(stored.fbclid))
        body = _encode(without_visitor(stored))
        return NewClick((*own, *_NAMELESS, click.flags, body), (None, None), None, stored.fbclid)
    address = public_normalised(click.ip) if click.ip is not None else None
    agent, visitor, fbp, fingerprint = click.user_agent, stored.visitor_id, stored.fbp, click.fingerprint
    agent_k, agent_class = _agent(names, store, agent) if agent else (None, 0)
    row = (
        store,
        click.ts,
        click.ts,
        click.received,
        named.fbclid(stored.fbclid),
        named.visitor(visitor) if visitor and canonical.visitor_id(visitor) else None,
        named.fbp(fbp) if fbp else None,
        named.ip(addresses.match_prefix(address)) if address else None,
        agent_k,
        named.fingerprint(fingerprint) if fingerprint and canonical.fingerprint(fingerprint) else None,
        agent_class,
        click.flags,
        _encode(stored),
    )
    return NewClick(row, (network_address(address, store_ip), agent), visitor, stored.fbclid)


def without_visitor(click: StoredClick) -> StoredClick:
    """What is kept of a click whose visitor refused: that an ad was clicked, not by whom."""
    return structs.replace(click, referrer=None, visitor_id=None, fbp=None, fbc=None, marketing="denied")


class _Namers(NamedTuple):
    """What a store's clicks are named by."""

    fbclid: Callable[[str], int]
    visitor: Callable[[str], int]
    fbp: Callable[[str], int]
    ip: Callable[[str], int]
    fingerprint: Callable[[str], int]


@lru_cache(maxsize=1024)
def _namers(names: KeyedHash, store: int) -> _Namers:
    return _Namers(*(names.namer(store, kind) for kind in ("fbclid", "visitor", "fbp", "ip", "fp")))


@remembered(4096)
def _agent(names: KeyedHash, store: int, agent: str) -> tuple[int, int]:
    """The name and the class of a user agent; a shop sees few different ones."""
    return names.name(store, "ua", agent), classify(agent)


def network_address(address: str | None, rule: str) -> str | None:
    """What is kept of a raw address under `[privacy] store_ip`."""
    if address is None or rule == "none":
        return None
    return addresses.truncate(address) if rule == "truncated" else address


def read(row: ClickRow) -> StoredClick:
    """The body of a click's row."""
    return _decode(row.body)


def recovered(names: KeyedHash, store: int, fbclid: str, fbc: str, created: int, now: int) -> NewClick:
    """A click that we know only from a later fbc: its time is the fbc's creation time."""
    body = StoredClick(fbclid=fbclid, landing_page="", fbc=fbc)
    row = (
        store,
        created,
        created,
        now,
        names.name(store, "fbclid", fbclid),
        None,  # whoever brings the fbc first would decide whose click it was
        None,
        None,
        None,
        None,
        0,
        flags.RECOVERED,
        _encode(body),
    )
    return NewClick(row, (None, None), None, fbclid)
