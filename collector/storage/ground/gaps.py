"""Nothing that was erased is left in the unused middle of a page.

`secure_delete` overwrites what is deleted. But where SQLite shares a full page's cells out among its neighbours it may
build that page anew, and leaves what moved away between the last cell pointer and the first cell (btree.c,
rebuildPage): a copy of a row that no later deletion knows of. Of 25 erasures from a folded and merged index two left a
key there. So an erasure ends with these gaps being overwritten, in the file itself.

That is safe while the write lock is held and the log is empty: then nobody writes to the file, and no page is read from
elsewhere. Only bytes that SQLite never reads are written, so neither a crash nor a torn write can harm. Page 1 changes
in the same transaction, and with it every other connection lets go of the pages it has in its cache: none writes a gap
back as it was. The pointer maps of a file with auto_vacuum (none of ours) may begin as a tree's page does: left alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Final

import apsw

from collector.storage.ground.database import immediate

_HEADERS: Final = {2: 12, 5: 12, 10: 8, 13: 8}  # bytes, by the kind of a b-tree's page (sqlite.org/fileformat2.html)
_FIRST: Final = 100  # bytes of the file's own header, before page 1's
_MOST_PAGES: Final = 2 << 24  # from here on another page's first byte may be one of these kinds: 275 GB
_READ: Final = 128  # pages
_AT_ONCE: Final = 500  # pages overwritten while the keeper waits: some 10 ms
_TRIES: Final = 10
_PATIENCE_MS: Final = 500


def overwrite(db: apsw.Connection, path: Path) -> bool:
    """Overwrite the gaps of all pages of `path`, of which `db` is a connection, and empty its log.

    False where the log could not be emptied: somebody still reads a page of before.
    """
    db.set_busy_timeout(_PATIENCE_MS)
    if not empty(db):
        return False
    size = db.pragma("page_size")
    flags = [apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_MAIN_DB, 0]
    with closing(_File("", str(path), flags)) as file:
        if file.xFileSize() >= _MOST_PAGES * size:
            return False
        maps = size // 5 + 1 if db.pragma("auto_vacuum") else 0  # every so many pages, from the second on
        found = (page for page in _with_a_gap(file, size) if not maps or page % maps != 1)
        while pages := list(islice(found, _AT_ONCE)):
            if not _filled(db, path, file, size, pages):
                return False
    return empty(db)


def empty(db: apsw.Connection) -> bool:
    """Whether the log could be emptied, which waits for whoever still reads a page of before."""
    for _ in range(_TRIES):
        try:
            db.wal_checkpoint("main", apsw.SQLITE_CHECKPOINT_TRUNCATE)
            return True
        except apsw.BusyError:
            time.sleep(0.25)
    return False


class _File(apsw.VFSFile):
    """By SQLite's own hand: a plain close would drop the locks that this process has on the file."""

    def close(self) -> None:
        self.xClose()


def _with_a_gap(file: _File, size: int) -> Iterator[int]:
    """Pages (from 0) whose gap holds something."""
    for first in range(0, file.xFileSize() // size, _READ):
        many = file.xRead(min(_READ * size, file.xFileSize() - first * size), first * size)
        for number in range(len(many) // size):
            page = many[number * size : (number + 1) * size]
            begin, end = gap(page, first + number)
            if page.count(0, begin, end) < end - begin:
                yield first + number


def gap(page: bytes, number: int) -> tuple[int, int]:
    """Where a page (from 0) has nothing: from the last cell pointer to the first cell; (0, 0) of no b-tree's page."""
    at = 0 if number else _FIRST
    header = _HEADERS.get(page[at])
    if header is None:
        return 0, 0
    begin = at + header + 2 * int.from_bytes(page[at + 3 : at + 5])
    first_cell = int.from_bytes(page[at + 5 : at + 7]) or 1 << 16
    return begin, max(begin, min(first_cell, len(page)))


def _filled(db: apsw.Connection, path: Path, file: _File, size: int, pages: list[int]) -> bool:
    """Overwrite these pages' gaps as they are once nobody can write; whether that came about."""
    for _ in range(_TRIES):
        if not empty(db):
            return False
        with immediate(db):
            if path.with_name(path.name + "-wal").stat().st_size:
                continue  # somebody wrote in between
            for number in pages:
                begin, end = gap(file.xRead(size, number * size), number)
                file.xWrite(bytes(end - begin), number * size + begin)
            file.xSync(apsw.SQLITE_SYNC_FULL)
            _let_caches_go(db)
        return True
    return False


def _let_caches_go(db: apsw.Connection) -> None:
    db.pragma("user_version", db.pragma("user_version"))  # writes page 1, though nothing changes
