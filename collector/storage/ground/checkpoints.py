"""The write-ahead log is kept short: a thread that moves its pages into the file, beside whoever commits.

Short, because all behind a damaged byte of it is lost (acknowledged.py): under load 2 MiB and what one group adds,
nothing while idle. A page is copied while commits go on. What they add meanwhile is copied by the one who commits,
before the next group: only a log of which nothing is left begins anew, and beside commits that never pause something
always is (measured: five copies, each with its syncs, until a log of 2 MiB was empty, at 16 connections). What is
copied is synced by the thread: SQLite has whoever copies the last page sync all of them (p99 of groups of 16 clicks,
five runs of 7,000 to 22,000, in turn in one process: .83, .90, .89, .95, .98 of what it was).
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import apsw

from collector import telemetry
from collector.config import StorageConfig
from collector.storage.ground import database
from collector.storage.ground.acknowledged import Ledger

log = telemetry.logger("storage")

_READER_S: Final = 0.02  # that a beginning anew waits for a reader, and every commit with it
_PATIENCE_S: Final = 0.5  # of a group with a slow disk
_AGAIN_S: Final = 0.05  # after a reader was in the way
_IDLE_S: Final = 1.0  # without a commit, then the log is cut to nothing
_CALM_S: Final = 5.0  # how often an empty log is looked at: the courier's commits, which nobody tells of, may be in it
_SYNC_S: Final = 5.0  # how old the note of what was acknowledged may be after a power cut


class Checkpointer(threading.Thread):
    """Owns a connection of its own. `after_commit` is the committing connection's hook."""

    def __init__(self, config: StorageConfig, data_dir: Path, ledger: Ledger) -> None:
        super().__init__(name="checkpointer", daemon=True)
        self._config = config
        self._most = self._full = 0  # pages of the log: from which on it is emptied, and a group waits for that
        self._path = data_dir / database.DATABASE
        self._ledger = ledger
        self._wake = threading.Event()
        self._emptied = threading.Event()
        self._nearly = False  # the log is copied but for what was committed meanwhile
        self._db: apsw.Connection | None = None  # of whoever commits
        self._ending = False
        self._grown = 0  # pages of the log at the last commit
        self._commits = 0
        self._synced_at, self._synced = 0.0, -1  # when, and at which commit
        self._is_calm = False  # nobody has committed, and the log is empty
        self._held_since: float | None = None
        self._file: int | None = None  # the database, to be synced

    def make_way(self) -> None:
        """Before a group: empty what little the log still holds, or wait where it has outgrown what a group may add to.

        Not while a reader is in the way, for it may be long; then the log grows, and status and metrics say so.
        """
        if self._grown >= self._full and not self._nearly and self._held_since is None and self.is_alive():
            self._emptied.clear()
            self._wake.set()
            self._emptied.wait(_PATIENCE_S)
        if self._nearly:
            self._finish()

    def oldest_reader(self) -> float:
        """Seconds for which a reader has kept the log from being begun anew; 0 while none does. Any thread may ask."""
        since = self._held_since
        return 0.0 if since is None else time.monotonic() - since

    def watch(self, db: apsw.Connection) -> None:
        """Be told of the commits of this connection, which then checkpoints no more by itself."""
        self._db = db
        self._most = database.checkpoint_pages(db, self._config)
        self._full = self._most * 3 // 2
        self._ledger.attach(db, self._after_commit)

    def _after_commit(self, pages: int) -> None:
        self._grown = pages
        self._commits += 1
        if ((pages >= self._most and not self._nearly) or self._is_calm) and not self._wake.is_set():
            self._wake.set()

    def _finish(self) -> None:
        """Copy the last pages while nobody commits, so that the next commit begins the log anew."""
        self._nearly = False
        try:
            assert self._db is not None, "watch() comes first"
            self._db.wal_checkpoint("main", apsw.SQLITE_CHECKPOINT_PASSIVE)
            self._grown = 0
        except apsw.Error:  # no fault of the group's: the thread meets it too, and tells
            self._wake.set()

    def stop(self) -> None:
        """End the thread; `close` comes after."""
        self._ending = True
        self._wake.set()
        if self.is_alive():
            self.join()

    def close(self) -> None:
        """Let go of the file, once every connection of this process is closed: POSIX locks go with any descriptor."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def run(self) -> None:
        db = database.connect(self._path, self._config)
        db.set_busy_timeout(int(_READER_S * 1000))
        seen, since = -1, time.monotonic()
        try:
            while not self._ending:
                self._wake.wait(timeout=_CALM_S if self._is_calm else _IDLE_S)
                self._wake.clear()
                if self._commits != seen:
                    seen, since = self._commits, time.monotonic()
                self._guarded(partial(self._step, db, idle=time.monotonic() - since >= _IDLE_S))
        finally:
            db.close()

    def _guarded(self, work: Callable[[], None]) -> None:
        """Whatever goes wrong, the thread lives on: without it the log would grow for ever."""
        try:
            work()
            self._held_since = None
            self._emptied.set()
        except apsw.BusyError:  # a reader in the middle, or another process at it
            self._held_since = self._held_since or time.monotonic()
            self._emptied.set()
            threading.Event().wait(_AGAIN_S)
        except Exception as error:
            log.failed("the write-ahead log could not be emptied", error)
            self._emptied.set()
            threading.Event().wait(_IDLE_S)

    def _step(self, db: apsw.Connection, *, idle: bool) -> None:
        self._is_calm = False
        if idle:
            self._is_calm = not self._cut(db)
        elif self._grown >= self._most and not self._nearly:
            pages, moved = db.wal_checkpoint("main", apsw.SQLITE_CHECKPOINT_PASSIVE)
            # A reader holds an older page, or one after the other has begun in the log: it was not begun anew.
            if pages != moved or pages >= 2 * self._most:
                db.wal_checkpoint("main", apsw.SQLITE_CHECKPOINT_RESTART)
            else:
                self._sync()
            self._nearly = True
        if self._synced != self._commits and time.monotonic() - self._synced_at >= _SYNC_S:
            # Of a commit of just now the note may not be written yet.
            self._synced_at, self._synced = time.monotonic(), self._commits if idle else -1
            self._ledger.sync()

    def _sync(self) -> None:
        """Have the copied pages on the disk: SQLite leaves that to whoever copies the last one, and it is a group.

        By a descriptor of its own, since what a sync fails with is told to each descriptor once; not by apsw's xSync,
        which keeps the interpreter's lock while it waits.
        """
        if self._file is None:
            self._file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        os.fdatasync(self._file)

    def _cut(self, db: apsw.Connection) -> bool:
        """Whether there was anything in the log."""
        with contextlib.suppress(FileNotFoundError):
            if self._path.with_name(self._path.name + "-wal").stat().st_size:
                db.wal_checkpoint("main", apsw.SQLITE_CHECKPOINT_TRUNCATE)
                return True
        return False
