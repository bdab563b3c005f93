"""What each store's matcher has learnt: the newest model of each."""

from __future__ import annotations

import msgspec

from collector.core.matching.model import Model
from collector.storage.reports.reader import Reader

NEWEST_SQL = """
SELECT m.store, m.body FROM model m
 WHERE m.created = (SELECT max(created) FROM model WHERE store = m.store)"""

_decode = msgspec.msgpack.Decoder(Model).decode


async def newest(reader: Reader) -> dict[int, Model]:
    """The newest model by store number; a store without one runs on the defaults."""
    return {store: _decode(body) for store, body in await reader.rows(NEWEST_SQL)}
