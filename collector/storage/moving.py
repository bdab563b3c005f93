"""Clicks whose first sighting became known later: noted with their new time, then taken there in the index too.

The index is another database. It notes in its own transaction how far it has followed, so that each move is taken there
once: neither a crash in between nor a fold that comes first, and reads the new time, counts a click twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple, cast

import apsw

from collector.core.flags import INELIGIBLE
from collector.storage import merging, sums
from collector.storage.database import immediate
from collector.storage.subjects import CLICKS, MINUTE_MS, ClickRow


class Move(NamedTuple):
    """A click's number, and its time (ms) before and after an earlier sighting of it became known."""

    id: int
    click: int
    before_ts: int
    after_ts: int


_NOTE: Final = "INSERT INTO moved (click, before_ts, after_ts) VALUES (?, ?, ?)"
_SINCE: Final = "SELECT id, click, before_ts, after_ts FROM {}moved WHERE id > ? ORDER BY id"
_FOLLOWED: Final = "SELECT id FROM main.watermark WHERE subject = 'moved'"
_FOLLOW: Final = "INSERT OR REPLACE INTO main.watermark VALUES ('moved', ?)"
_ROW: Final = f"SELECT {CLICKS.columns} FROM source.click WHERE id = ?"
_MINUTE: Final = "UPDATE main.{} SET minute = ? WHERE k IN (?, ?) AND id = ?"


def note(db: apsw.Connection, before: ClickRow, after: ClickRow) -> None:
    """Note a move in the open transaction of the main database, which gives the click its new time."""
    db.execute(_NOTE, (before.id, before.ts, after.ts))


def noted(db: apsw.Connection, after: int = 0, schema: str = "") -> Iterator[Move]:
    """What is noted above the number `after`, the oldest first."""
    return map(Move._make, cast("Iterator[tuple[int, int, int, int]]", db.execute(_SINCE.format(schema), (after,))))


def followed(db: apsw.Connection) -> int:
    """How far the index has followed; `db` is a connection to it."""
    found = db.execute(_FOLLOWED).get
    return found if isinstance(found, int) else 0


def pending(db: apsw.Connection) -> bool:
    """Whether there is something to follow; `db` is a connection of open_index."""
    return db.execute("SELECT 1 FROM source.moved WHERE id > ? LIMIT 1", (followed(db),)).get is not None


def follow(db: apsw.Connection, folded: int) -> None:
    """Take every noted click to its new time, inside the index's transaction.

    `folded`: the watermark before this transaction. A later click is folded at its new time, by this one or the next.
    """
    moves = list(noted(db, followed(db), "source."))
    for move in moves:
        values = db.execute(_ROW, (move.click,)).fetchone() if move.click <= folded else None
        if values is not None:
            _take(db, ClickRow._make(values), move)
    if moves:
        db.execute(_FOLLOW, (moves[-1].id,))


def _take(db: apsw.Connection, row: ClickRow, move: Move) -> None:
    if row.flags & INELIGIBLE:
        return
    sums.move(db, row._replace(ts=move.before_ts), row._replace(ts=move.after_ts))
    for key, name in zip(CLICKS.keys, CLICKS.names(row), strict=True):
        if key.tagged and name is not None:
            places = (*merging.homes(row.id, name), row.id)
            db.execute(_MINUTE.format(CLICKS.index_table(key.name)), (move.after_ts // MINUTE_MS, *places))


def forget(main: apsw.Connection, folded: apsw.Connection) -> None:
    """Forget the notes that the index has followed; the connections are one to each database."""
    through = followed(folded)
    if main.execute("SELECT 1 FROM moved WHERE id <= ? LIMIT 1", (through,)).get is not None:
        with immediate(main):
            main.execute("DELETE FROM moved WHERE id <= ?", (through,))
