"""A database with many clicks, soon: real rows in bulk, then the index folded in large steps."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Any, Final

import msgspec

from collector.bench import people
from collector.config import Config
from collector.core import intake
from collector.core.consent import Decision
from collector.core.events import ClickBody
from collector.core.intake import Caller
from collector.core.keyed import KeyedHash
from collector.exchange import clicks
from collector.exchange.clicks import NewClick
from collector.storage.ground import database, multirow, stores
from collector.storage.index import index, merging
from collector.storage.rules.tables import CLICKS

SPAN_DAYS: Final = 60  # over which the stored clicks came
_CHUNK: Final = 20_000
_FOLD: Final = 200_000
_SERVER: Final = Caller(secret=True, address="127.0.0.1")
_GRANTED: Final = Decision("granted", False)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def names_of(db: Any, config: Config) -> KeyedHash:
    """The installation's own names, so that its edge finds the rows; `db` is its open database."""
    return KeyedHash(database.load_pepper(db, Path(config.storage.data_dir), config.privacy.pepper_file))


def row_of(names: KeyedHash, store: int, n: int, at: int) -> NewClick:
    """Click `n`, received at `at` (ms), through the edge's own checks and names."""
    body = msgspec.convert(people.click(n), ClickBody)
    return clicks.prepare(names, store, intake.check_click(body, _SERVER, _GRANTED, at, None), "full")


def fill(config: Config, rows: int) -> float:
    """Store clicks 1 to `rows`, the newest now, findable; the seconds it took."""
    began = time.monotonic()
    data_dir = database.prepare_data_dir(config.storage)
    with contextlib.closing(database.open_database(config.storage)) as db:
        store = stores.load(db, config)[people.STORE].number
        db.pragma("synchronous", "OFF")  # a database of the benchmark's may be built again
        names, until = names_of(db, config), now_ms()
        step = SPAN_DAYS * 86_400_000 / max(rows, 1)
        for first in range(1, rows + 1, _CHUNK):
            chunk = range(first, min(first + _CHUNK, rows + 1))
            made = [(n, row_of(names, store, n, until - int((rows - n) * step))) for n in chunk]
            db.execute("BEGIN IMMEDIATE")
            multirow.write(db, "INSERT INTO click", [(n, *new.row) for n, new in made])
            multirow.write(db, "INSERT INTO click_network", [(n, *new.network) for n, new in made])
            db.execute("COMMIT")
    _fold(config, data_dir)
    return time.monotonic() - began


def _fold(config: Config, data_dir: Path) -> None:
    folded: Any = index.open_index(data_dir, config.storage)
    with contextlib.closing(folded) as db:
        before = -1
        while (now := index.fold(db, CLICKS, _FOLD)) != before:
            before = now
        while merging.merge(db, CLICKS, before):
            pass
    os.sync()  # or the disk would still be at it while something is measured
