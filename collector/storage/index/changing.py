"""Clicks that change after they were stored: first seen earlier, completed by a second report, or refused.

Each is noted as it was before, in the transaction that changes it; then the index follows. That is another database and
notes in its own transaction how far it has come, so that each change is followed once: neither a crash in between nor a
fold that comes first, and reads the click as it is now, counts one twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, cast

import apsw

from collector.exchange.rows import ClickRow
from collector.storage.ground.database import immediate
from collector.storage.index import merging, sums
from collector.storage.index.bloom import LOW_BITS, LOW_MASK
from collector.storage.rules.tables import BUCKET, CLICKS, MINUTE_MS, Key, click_tag

# What may change of a click and what the index has of it.
_COLUMNS: Final = ("ts", "visitor_k", "fbp_k", "ip_k", "ua_k", "fp_k", "flags")
_NOTE: Final = f"INSERT INTO changed_click (click, {', '.join(_COLUMNS)}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_THEN: Final = ", ".join(f"note.{column}" for column in _COLUMNS)
_NOW: Final = ", ".join(f"click.{column}" for column in ClickRow._fields)
# The first note of a click says how the index has it; the row itself how it is now.
_SINCE: Final = (
    f"SELECT min(note.id), {_THEN}, {_NOW} "
    "FROM {schema}changed_click AS note JOIN {schema}click AS click ON click.id = note.click "
    "WHERE note.id > ? GROUP BY note.click"
)
_FOLLOWED: Final = "SELECT id FROM main.watermark WHERE subject = 'changed_click'"
_FOLLOW: Final = "INSERT OR REPLACE INTO main.watermark VALUES ('changed_click', ?)"
_NEWEST: Final = "SELECT max(id) FROM source.changed_click"


def note(db: apsw.Connection, before: ClickRow) -> None:
    """Note how a click was, in the open transaction of the main database, which changes it."""
    db.execute(_NOTE, (before.id, *(getattr(before, column) for column in _COLUMNS)))


def noted(db: apsw.Connection, after: int, schema: str = "") -> Iterator[tuple[ClickRow, ClickRow]]:
    """Each click with notes above the number `after`: as it was before the first of them, and as it is."""
    for values in cast("Iterator[tuple[Any, ...]]", db.execute(_SINCE.format(schema=schema), (after,))):
        now = ClickRow._make(values[1 + len(_COLUMNS) :])
        yield now._replace(**dict(zip(_COLUMNS, values[1:], strict=False))), now


def followed(db: apsw.Connection) -> int:
    """How far the index has followed; `db` is a connection to it."""
    found = db.execute(_FOLLOWED).get
    return found if isinstance(found, int) else 0


def _newest(db: apsw.Connection) -> int:
    found = db.execute(_NEWEST).get
    return found if isinstance(found, int) else 0


def pending(db: apsw.Connection) -> bool:
    """Whether there is something to follow; `db` is a connection of open_index."""
    return _newest(db) > followed(db)


def follow(db: apsw.Connection, folded: int) -> None:
    """Have entries and sums of every noted click as it is now, inside the index's transaction.

    `folded`: the watermark before this transaction. A later click is folded as it is now, by this one or the next.
    """
    newest, through = _newest(db), followed(db)
    if newest <= through:
        return
    for before, now in list(noted(db, through, "source.")):
        if now.id <= folded:
            sums.move(db, before, now)
            for key, old, new in zip(CLICKS.keys, CLICKS.names(before), CLICKS.names(now), strict=True):
                _change(db, key, now, old, new)
    db.execute(_FOLLOW, (newest,))


def _change(db: apsw.Connection, key: Key, row: ClickRow, old: int | None, new: int | None) -> None:
    table = f"main.{CLICKS.index_table(key.name)}"
    if old is not None and old != new:
        db.execute(f"DELETE FROM {table} WHERE k IN (?, ?) AND id = ?", (*merging.homes(row.id, old), row.id))
    if new is None or (old == new and not key.tagged):
        return
    values = (click_tag(row), row.ts // MINUTE_MS) if key.tagged else ()
    if old == new:
        homes = (*merging.homes(row.id, new), row.id)
        db.execute(f"UPDATE {table} SET tag = ?, minute = ? WHERE k IN (?, ?) AND id = ?", (*values, *homes))
    else:  # under the group's first bucket, where it is found whether the group is merged or not
        k = merging.first_of_group(row.id // BUCKET) << LOW_BITS | new & LOW_MASK
        marks = ", ?" * len(values)
        db.execute(f"INSERT OR REPLACE INTO {table} VALUES (?, ?{marks})", (k, row.id, *values))


def forget(main: apsw.Connection, folded: apsw.Connection) -> None:
    """Forget the notes that the index has followed; the connections are one to each database."""
    through = followed(folded)
    if main.execute("SELECT 1 FROM changed_click WHERE id <= ? LIMIT 1", (through,)).get is not None:
        with immediate(main):
            main.execute("DELETE FROM changed_click WHERE id <= ?", (through,))
