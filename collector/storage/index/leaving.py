"""Entries that must leave the index: noted in the transaction that takes their rows' keys away, then worked off.

The index is another database, so both cannot be done at one stroke; after a crash in between the note is still there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, cast

import apsw

from collector.exchange.rows import ClickRow, ConversionRow
from collector.storage.ground.database import immediate
from collector.storage.index import index
from collector.storage.index.bloom import LOW_MASK
from collector.storage.index.index import Entry
from collector.storage.rules.tables import Table

_AT_ONCE: Final = 1_000


def note(db: apsw.Connection, table: Table, before: ClickRow | ConversionRow, kept: Iterable[str] = ()) -> None:
    """Have a row's entries leave, but those of the keys that it keeps; `before`: the row as it was."""
    names = zip(table.keys, table.names(before), strict=True)
    entries = [(table.name, key.name, name & LOW_MASK, before.id) for key, name in names if name is not None]
    sql = "INSERT INTO leaving (subject, key, name, row) VALUES (?, ?, ?, ?)"
    db.executemany(sql, [entry for entry in entries if entry[1] not in kept])


def work_off(db: apsw.Connection, folded: apsw.Connection) -> int:
    """Take what is noted out of the index, some at a time; how many went.

    `folded` is a connection of open_index. A fold that had read the rows before is over by the time it lets us in.
    """
    done = 0
    while True:
        rows = db.execute("SELECT id, subject, key, name, row FROM leaving ORDER BY id LIMIT ?", (_AT_ONCE,)).fetchall()
        if not rows:
            return done
        index.forget(folded, cast("list[Entry]", [row[1:] for row in rows]))
        with immediate(db):
            db.executemany("DELETE FROM leaving WHERE id = ?", [row[:1] for row in rows])
        done += len(rows)
