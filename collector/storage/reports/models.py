"""What each store's matcher has learnt: the newest model of each, and the one that made an answer."""

from __future__ import annotations

import msgspec

from collector.core.matching.model import DEFAULT_MODEL, Model
from collector.storage.reports.questions import Reading, named

NEWEST_SQL = named(
    "newest models",
    """
SELECT m.store, m.body FROM model m
 WHERE m.created = (SELECT max(created) FROM model WHERE store = m.store)""",
)
MADE_SQL = named(
    "model", "SELECT m.body FROM model m JOIN store s ON s.id = m.store WHERE s.name = ? AND m.version = ?"
)

_decode = msgspec.msgpack.Decoder(Model).decode


async def newest(reader: Reading) -> dict[int, Model]:
    """The newest model by store number; a store without one runs on the defaults."""
    return {store: _decode(body) for store, body in await reader.rows(NEWEST_SQL)}


async def version(reader: Reading, store: str, name: str) -> Model | None:
    """A store's model by its version, as an answer names it; None when it is not kept."""
    if name == DEFAULT_MODEL.version:
        return DEFAULT_MODEL
    row = await reader.one(MADE_SQL, store, name)
    return _decode(row[0]) if row else None
