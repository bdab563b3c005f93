"""Which conversions carry an order id: the keeper's index, read only, then the newest rows that it does not hold yet.

Order ids are kept as keyed hashes of (store, event type, order), so a look-up tries each store and event type seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from typing import Final

import msgspec

from collector.config import Config
from collector.core.event_names import STANDARD
from collector.errors import StorageError
from collector.storage.index.bloom import LOW_BITS, LOW_MASK
from collector.storage.reports.names import keyed_hash
from collector.storage.reports.questions import STORES, Reading, named
from collector.storage.reports.reader import Reader
from collector.storage.rules.tables import BUCKET, CONVERSIONS

_CHUNK: Final = 500
_MOST_NAMES: Final = 200  # stores times event types, or as many as there are stores
_TAIL: Final = 60_000  # the keeper folds at 50,000 unfolded rows at the latest
_INDEX: Final = CONVERSIONS.index_table("dedup")
NAMED: Final = named("orders by name", "SELECT id FROM conversion WHERE dedup_k IN (SELECT value FROM json_each(?))")
_EVENTS: Final = named("events by name", "SELECT name FROM event_name")
# By the sums' key: a list of all that they have would be a walk through them.
_HAS_EVENT: Final = """
SELECT EXISTS (SELECT 1 FROM store s CROSS JOIN sale_day d WHERE d.store = s.id AND d.event = ?)"""


async def seen_events(reader: Reading) -> set[str]:
    """The names of all events that there may be."""
    if reader.by_time:  # it finds a name at once, so none is left out
        return {*STANDARD, *(name for (name,) in await reader.rows(_EVENTS))}
    told = {name for name in sorted(STANDARD) if await reader.one(_HAS_EVENT, name) == (1,)}
    return told | {name for (name,) in await reader.rows(_EVENTS)}


async def of_order(reader: Reading, config: Config, order_id: str, event_types: Iterable[str]) -> list[int]:
    """Row numbers of the conversions with this order id, oldest first."""
    stores = [row[0] for row in await reader.rows(STORES)]
    hashed = await keyed_hash(reader, config)
    types = sorted({"Purchase", *event_types}, key=lambda name: name != "Purchase")
    names = [hashed.name(store, "once", f"{kind}\0o{order_id}") for kind in types for store in stores]
    wanted = set(names[: max(_MOST_NAMES, len(stores))])  # every store's purchases first
    if not isinstance(reader, Reader):
        return [row[0] for row in await reader.rows(NAMED, msgspec.json.encode(sorted(wanted)).decode())]
    row = await reader.one("SELECT max(id) FROM conversion")
    newest: int = (row and row[0]) or 0
    folded, maybe = await _folded(reader, wanted, newest)
    tail = await reader.rows("SELECT id, dedup_k FROM conversion WHERE id > ?", max(folded, newest - _TAIL))
    known = await _checked(reader, maybe, wanted)
    return sorted(known | {number for number, name in tail if name in wanted})


async def _folded(reader: Reader, names: Set[int], newest: int) -> tuple[int, list[int]]:
    """How far the index goes, and the rows that it names: their low 44 bits agree."""
    keys = [bucket << LOW_BITS | name & LOW_MASK for name in names for bucket in range(newest // BUCKET + 1)]
    found: list[int] = []
    try:
        async with Reader(reader.path.with_name("index.db")) as index:
            mark = await index.one("SELECT id FROM watermark WHERE subject = ?", CONVERSIONS.name)
            for i in range(0, len(keys), _CHUNK):
                chunk = keys[i : i + _CHUNK]
                marks = ",".join("?" * len(chunk))
                found += [row[0] for row in await index.rows(f"SELECT id FROM {_INDEX} WHERE k IN ({marks})", *chunk)]
    except StorageError:  # it is derivable: the keeper may be building it anew
        return 0, []
    return (mark[0] if mark else 0), found


async def _checked(reader: Reader, numbers: list[int], names: Set[int]) -> set[int]:
    """Those rows whose whole name agrees."""
    out = set()
    for number in numbers:
        row = await reader.one("SELECT dedup_k FROM conversion WHERE id = ?", number)
        if row is not None and row[0] in names:
            out.add(number)
    return out
