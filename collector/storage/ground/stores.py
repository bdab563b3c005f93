"""The stores of the configuration, with the numbers that they and their pixels have in this database."""

from __future__ import annotations

import apsw

from collector.config import Config
from collector.exchange.stores import Store
from collector.storage.rules.stores import stores_of


def load(db: apsw.Connection, config: Config) -> dict[str, Store]:
    """Every store of the configuration by its id; numbers are made at first use, inside the caller's transaction."""
    numbers = {s.id: _number(db, s.id) for s in config.store}
    pixels = {p.id: pixel_number(db, p.id) for s in config.store for p in s.pixel}
    return stores_of(config, numbers, pixels)


def _number(db: apsw.Connection, name: str) -> int:
    db.execute("INSERT INTO store (name) VALUES (?) ON CONFLICT DO NOTHING", (name,))
    return int(db.execute("SELECT id FROM store WHERE name = ?", (name,)).get)


def pixel_number(db: apsw.Connection, name: str) -> int:
    """The short number of Meta's pixel id, made at first use."""
    db.execute("INSERT INTO pixel (name) VALUES (?) ON CONFLICT DO NOTHING", (name,))
    return int(db.execute("SELECT id FROM pixel WHERE name = ?", (name,)).get)
