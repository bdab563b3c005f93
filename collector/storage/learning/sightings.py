"""Who was seen where: the hits of visitors by address and network, for what a night learns of addresses.

The network's name needs the raw address, which is kept for a week, and the key of names. Where either is missing, only
crowds are learnt.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import apsw
import msgspec
from msgspec import Struct

from collector.core import addresses, flags
from collector.core.keyed import KeyedHash
from collector.core.sightings import Crowds, Hit, Sighting, crowds_of, seen_again

MOST_HITS: Final = 200_000  # of clicks, and as many of events: the newest; a second of reading
_MONTH_MS: Final = 30 * 86_400_000
_SLICE: Final = 2_000
_SHOWN: Final = f"visitor_k IS NOT NULL AND ip_k IS NOT NULL AND flags & {flags.INELIGIBLE} = 0"
_CLICKS: Final = f"""
SELECT c.ts, c.visitor_k, c.ip_k, n.ip FROM click c LEFT JOIN click_network n ON n.id = c.id
 WHERE c.id > ? AND c.id <= ? AND c.store = ? AND {_SHOWN}"""
_EVENTS: Final = f"SELECT ts, visitor_k, ip_k, body FROM conversion WHERE id > ? AND id <= ? AND store = ? AND {_SHOWN}"


class _Address(Struct):
    """The one field of a stored event that tells its network."""

    ip: str | None = None


_decode = msgspec.msgpack.Decoder(_Address).decode


def of_addresses(
    db: apsw.Connection, store: int, names: KeyedHash | None, since: int, now: int
) -> tuple[list[Sighting], Crowds]:
    """Visitors seen again since then (event time, ms), and the addresses on which several were seen in 30 days."""
    clicks, events = (list(_hits(db, store, names, table, now)) for table in ("click", "conversion"))
    hits = sorted([*clicks, *events])
    crowds = crowds_of(hits, {hit.visitor for hit in clicks})
    return seen_again(hits, since), crowds


def _hits(db: apsw.Connection, store: int, names: KeyedHash | None, table: str, now: int) -> Iterator[Hit]:
    last: Any = db.execute(f"SELECT coalesce(max(id), 0) FROM {table}").get
    known: dict[str, int] = {}
    for start in range(max(0, last - MOST_HITS), last, _SLICE):
        rows: Any = db.execute(_CLICKS if table == "click" else _EVENTS, (start, min(start + _SLICE, last), store))
        for ts, visitor, address, raw in rows:
            if now - _MONTH_MS <= ts <= now:
                ip = raw if table == "click" else _decode(raw).ip
                yield Hit(ts, visitor, address, _network(names, store, ip, known) if ip else None)


def _network(names: KeyedHash | None, store: int, ip: str, known: dict[str, int]) -> int | None:
    if names is None:
        return None
    network = addresses.truncate(ip)
    if network not in known:
        known[network] = names.name(store, "net", network)
    return known[network]


def network_of(db: apsw.Connection, click_id: int) -> tuple[str | None, str | None]:
    """Raw address and user agent of a click, while they are kept."""
    row = db.execute("SELECT ip, user_agent FROM click_network WHERE id = ?", (click_id,)).fetchone()
    return (row[0], row[1]) if row else (None, None)
