"""One library for a file in a process: apsw here; Python's own SQLite, which is aiosqlite's, in a process of its own.

Both keep their list of a file's locks for themselves, and the kernel keeps one for the process: the first connection
that either closes takes the other's locks away, and the next to open cuts the `-shm` short under it (seen: a bus error
in a checkpoint). The program's processes have one of the two each (`tests/process/test_one_library.py`); tests hold a
journal and ask a report in one process. So here aiosqlite's connections are made by another process, over a socket, and
whatever else opens a file by both is refused.
"""

from __future__ import annotations

import functools
import os
import sqlite3
import subprocess
import sys
import threading
import types
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any, Final

_ROOT: Final = Path(__file__).parents[2]
_near = sqlite3.connect


class NearConnection(sqlite3.Connection):
    """One in this process, which knows its file."""

    path = ""


_opened: Final[weakref.WeakSet[NearConnection]] = weakref.WeakSet()


class TwoLibraries(RuntimeError):
    """A file is open by one library, and the other was about to open it in the same process."""


def install() -> None:
    """Keep the rule in this process, from now on."""
    import aiosqlite.core
    import apsw

    far = {name: getattr(sqlite3, name) for name in dir(sqlite3) if not name.startswith("__")}
    aiosqlite.core.sqlite3 = types.SimpleNamespace(**{**far, "connect": FarConnection})  # type: ignore[assignment]
    sqlite3.connect = _guarded
    apsw.connection_hooks.append(_refuse_beside_pythons)


def _guarded(database: Any, *args: Any, **options: Any) -> NearConnection:
    """`sqlite3.connect`, but for a file that apsw has open."""
    import apsw

    db = _near(database, *args, **{"factory": NearConnection, **options})
    path = db.path = db.execute("PRAGMA database_list").fetchone()[2]
    if path and any(_is(path, one.filename) for one in apsw.connections()):
        db.close()
        raise TwoLibraries(f"{path} is open by apsw in this process; ask far_sqlite.FarConnection")
    _opened.add(db)
    return db


def _refuse_beside_pythons(db: Any) -> None:
    if any(_is(one.path, db.filename) and _is_open(one) for one in list(_opened)):
        raise TwoLibraries(f"{db.filename} is open by Python's sqlite3 in this process; close it first")


def _is_open(db: sqlite3.Connection) -> bool:
    try:
        return db.in_transaction or True
    except sqlite3.ProgrammingError:
        return False


def _is(path: str, other: str) -> bool:
    return bool(other) and os.path.realpath(path) == os.path.realpath(other)


class Rows(list[tuple[Any, ...]]):
    """What a statement gave, in the shape of a cursor."""

    def fetchall(self) -> Rows:
        return self

    def fetchone(self) -> tuple[Any, ...] | None:
        return self.pop(0) if self else None

    def close(self) -> None:
        """Nothing is open."""


class FarConnection:
    """What aiosqlite and tests need of a `sqlite3.Connection`, opened in the other process."""

    def __init__(self, database: str | Path, **options: Any) -> None:
        self._wire = Client(_address(), "AF_UNIX")
        self._handler: Callable[[], object] = lambda: False
        self._asked(str(database), options)

    def __enter__(self) -> FarConnection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def set_progress_handler(self, handler: Callable[[], object], _steps: int) -> None:
        """Asked every few milliseconds while a statement runs, on this side."""
        self._handler = handler

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> Rows:
        """All rows of a statement; its exception is the other side's."""
        return Rows(self._asked(sql, list(parameters)))

    def close(self) -> None:
        """Return when the file is closed."""
        if not self._wire.closed:
            self._asked(None, None)
            self._wire.close()

    def _asked(self, *question: object) -> Any:
        self._wire.send(question)
        while not self._wire.poll(0.02):
            if self._handler():
                self._wire.send(None)
                break
        answer = self._wire.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer


@functools.cache
def _address() -> str:
    """Where the other process listens: begun once, it ends with this one."""
    child = subprocess.Popen(
        [sys.executable, "-c", "from tests.kit import far_sqlite; far_sqlite.serve()"],
        cwd=_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    _children.append(child)  # its stdin stays open as long as this process lives
    return child.stdout.readline().strip()


_children: Final[list[subprocess.Popen[str]]] = []


def serve() -> None:
    """The other process: a thread for each connection."""
    listener = Listener(family="AF_UNIX")
    print(listener.address, flush=True)

    def end_with_the_first() -> None:
        sys.stdin.read()
        os._exit(0)

    threading.Thread(target=end_with_the_first, daemon=True).start()
    while True:
        threading.Thread(target=_attend, args=(listener.accept(),), daemon=True).start()


def _attend(wire: Connection) -> None:
    database, options = wire.recv()
    try:
        db = _near(database, **options)
    except sqlite3.Error as error:
        return wire.send(error)
    with closing(db):
        db.set_progress_handler(wire.poll, 1000)  # what comes while a statement runs is the word to stop
        wire.send(None)
        for sql, parameters in _questions(wire):
            wire.send(_answer(db, sql, parameters))
    wire.send(None)


def _questions(wire: Connection) -> Iterator[tuple[str, list[object]]]:
    while question := wire.recv() or ("", []):
        if question[0] is None:
            return
        if question[0]:
            yield question


def _answer(db: sqlite3.Connection, sql: str, parameters: list[object]) -> list[Any] | Exception:
    try:
        return db.execute(sql, parameters).fetchall()
    except Exception as error:  # whatever it is, it is the caller's
        return error
