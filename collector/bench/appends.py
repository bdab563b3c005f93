"""How fast can SQLite alone append these rows: the floor under every durable click."""

from __future__ import annotations

import contextlib
import time

from collector.bench import storing
from collector.bench.storing import names_of
from collector.config import Config
from collector.storage.ground import database, multirow


def per_second(config: Config, group: int, seconds: float) -> float:
    """Click rows per second, `group` to a commit, with the edge's own pragmas and nothing else around them."""
    with contextlib.closing(database.open_database(config.storage)) as db:
        names = names_of(db, config)
        made = [storing.row_of(names, 1, n, storing.now_ms()) for n in range(1, 4097)]
        last = int(db.execute("SELECT coalesce(max(id), 0) FROM click").get)
        count, began = 0, time.monotonic()
        while time.monotonic() - began < seconds:
            first = count % 4096
            rows = [made[(first + i) % 4096] for i in range(group)]
            db.execute("BEGIN IMMEDIATE")
            multirow.write(db, "INSERT INTO click", [(last + count + i, *new.row) for i, new in enumerate(rows, 1)])
            multirow.write(
                db, "INSERT INTO click_network", [(last + count + i, *new.network) for i, new in enumerate(rows, 1)]
            )
            db.execute("COMMIT")
            count += group
        return count / (time.monotonic() - began)
