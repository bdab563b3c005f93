"""Is this file still where events are kept? `collector migrate` marks one whose rows are in PostgreSQL by now."""

from __future__ import annotations

from typing import Final, NamedTuple

import apsw

from collector.core import times
from collector.errors import StorageError

_MAKE: Final = """
CREATE TABLE IF NOT EXISTS moved (
    id    INTEGER PRIMARY KEY CHECK (id = 1),
    began INTEGER NOT NULL,                  -- ms
    done  INTEGER                            -- ms; NULL while rows are being copied
) STRICT"""


class Mark(NamedTuple):
    """When a move was begun and done (ms)."""

    began: int
    done: int | None


def mark(db: apsw.Connection) -> Mark | None:
    """The mark; None where nobody has begun to move it."""
    if not db.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'moved'").get:
        return None
    row = db.execute("SELECT began, done FROM moved").fetchone()
    return Mark(*row) if row else None


def begin(db: apsw.Connection, now: int) -> None:
    """Note a move of this moment (ms)."""
    db.execute(_MAKE)
    db.execute("INSERT OR REPLACE INTO moved VALUES (1, ?, NULL)", (now,))


def finish(db: apsw.Connection, began: int, now: int) -> bool:
    """Note its end; False where somebody has opened the file for other work since."""
    db.execute("UPDATE moved SET done = ? WHERE began = ? AND done IS NULL", (now, began))
    return bool(db.changes())


def refuse(db: apsw.Connection) -> None:
    """StorageError for a file that was moved. A move that was only begun is given up by whoever works here again."""
    if (found := mark(db)) is None:
        return
    if found.done is not None:
        day = times.text(found.done)[:10]
        raise StorageError(f'[storage] data_dir: moved to PostgreSQL on {day}; set engine = "postgres"')
    db.execute("DELETE FROM moved")
