"""Merges full buckets of the index, eight to one, so that a look-up probes few places however long its window is.

A fold writes into the newest bucket alone, which keeps its pages few; a look-up pays for each bucket of its window
(2 µs each: 26 in 30 days at 10⁷ clicks, 51 in 90). So once all buckets of a group are full, their entries move under
the group's first bucket, in small steps while nothing is to be folded. A step moves every entry of some names of one
key in one transaction: whoever asks for a name finds its entries all in their own buckets or all under the group's
first, in the same order, and so the same ones.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import apsw

from collector.storage.ground.database import immediate
from collector.storage.index.bloom import LOW_BITS, LOW_MASK
from collector.storage.rules.tables import BUCKET, Key, Table

GROUP: Final = 8  # buckets
_SLICE_BITS: Final = 6
SLICES: Final = 1 << _SLICE_BITS  # of a key's names; one is some 25,000 entries, 30 ms
_MOVED: Final = "INSERT OR REPLACE INTO main.merged VALUES (?, ?, ?)"


def first_of_group(bucket: int) -> int:
    """The bucket under which this one's entries are, or will be, once its group is full."""
    return bucket // GROUP * GROUP


def homes(row_id: int, name: int) -> tuple[int, int]:
    """The two places (k) at which an entry of this row under this name may be."""
    bucket, low = row_id // BUCKET, name & LOW_MASK
    return bucket << LOW_BITS | low, first_of_group(bucket) << LOW_BITS | low


@lru_cache(maxsize=256)
def places(first: int, last: int, through: int) -> tuple[int, ...]:
    """Where entries of the buckets `first` to `last` are, the newest first, when those below `through` are merged.

    `through` may be of a while ago: what has been merged since is under a place that is named here all the same.
    """
    alone = range(last, max(first, through) - 1, -1)
    merged = range(first_of_group(min(through - 1, last)), first_of_group(first) - 1, -GROUP)
    found = [*alone, *merged]
    begin = first_of_group(first)  # the window begins inside a group that may be merged by now
    return tuple(found if found[-1] == begin else [*found, begin])


def merged_through(db: apsw.Connection, table: Table) -> int:
    """Every bucket below this one is merged."""
    return _progress(db, table)[0]


def _progress(db: apsw.Connection, table: Table) -> tuple[int, int]:
    found = db.execute("SELECT through, step FROM main.merged WHERE subject = ?", (table.name,)).fetchone()
    return (int(found[0]), int(found[1])) if found else (0, 0)


def merge(db: apsw.Connection, table: Table, folded: int) -> bool:
    """One step, if a group is full of rows up to `folded`, the watermark; whether there was something to do.

    `db` is a connection of open_index. Safe beside other folders: the step is chosen under the write lock.
    """
    if folded < _end(merged_through(db, table)):
        return False
    with immediate(db):
        group, step = _progress(db, table)
        if folded < _end(group):
            return False
        key, part = table.keys[step // SLICES], step % SLICES
        _move(db, table.index_table(key.name), key, group, part)
        step += 1
        whole = step == SLICES * len(table.keys)
        db.execute(_MOVED, (table.name, group + GROUP if whole else group, 0 if whole else step))
    return True


def _end(group: int) -> int:
    """The last row id of a group's last bucket."""
    return (group + GROUP) * BUCKET - 1


def _move(db: apsw.Connection, table: str, key: Key, group: int, part: int) -> None:
    """Put one part of the names under the group's first bucket."""
    low = part << LOW_BITS - _SLICE_BITS
    high = part + 1 << LOW_BITS - _SLICE_BITS
    columns = ", tag, minute" if key.tagged else ""
    for bucket in range(group + 1, group + GROUP):
        bounds = (bucket << LOW_BITS | low, (bucket << LOW_BITS) + high)
        db.execute(
            f"INSERT OR IGNORE INTO main.{table} SELECT {group << LOW_BITS} | (k & {LOW_MASK}), id{columns} "
            f"FROM main.{table} WHERE k >= ? AND k < ?",
            bounds,
        )
        db.execute(f"DELETE FROM main.{table} WHERE k >= ? AND k < ?", bounds)
