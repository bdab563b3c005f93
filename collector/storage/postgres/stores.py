"""The stores of the configuration, with the numbers that they and their pixels have in this database."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from collector.config import Config
from collector.exchange.stores import Store
from collector.storage.postgres.connecting import Connection
from collector.storage.rules.stores import stores_of

# Locks rows in one order, so that two processes that start at once do not wait for each other.
_MAKE: Final = "INSERT INTO {table} (name) SELECT unnest($1::text[]) ORDER BY 1 ON CONFLICT DO NOTHING"
_NUMBERS: Final = "SELECT name, id FROM {table} WHERE name = ANY($1::text[])"


async def load(connection: Connection, config: Config) -> dict[str, Store]:
    """Every store of the configuration by its id; numbers are made at first use."""
    stores = await _numbered(connection, "store", (s.id for s in config.store))
    pixels = await _numbered(connection, "pixel", (p.id for s in config.store for p in s.pixel))
    return stores_of(config, stores, pixels)


async def _numbered(connection: Connection, table: str, names: Iterable[str]) -> dict[str, int]:
    wanted = list(dict.fromkeys(names))
    found = dict(await connection.fetch(_NUMBERS.format(table=table), wanted))
    if len(found) < len(wanted):  # else each start would use up numbers
        await connection.execute(_MAKE.format(table=table), [name for name in wanted if name not in found])
        found = dict(await connection.fetch(_NUMBERS.format(table=table), wanted))
    return found
