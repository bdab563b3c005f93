"""The write-ahead log is kept short: a thread that moves its pages into the file, beside whoever commits.

Short, because all behind a damaged byte of it is lost (acknowledged.py): under load 2 MiB and what one group adds,
nothing while idle. A page is copied while commits go on; only the rest, and the beginning anew, holds the next one up.
"""

from __future__ import annotations

import contextlib
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
_SYNC_S: Final = 5.0  # how old the note of what was acknowledged may be after a power cut


class Checkpointer(threading.Thread):
    """Owns a connection of its own. `after_commit` is the committing connection's hook."""

    def __init__(self, config: StorageConfig, data_dir: Path, ledger: Ledger) -> None:
        super().__init__(name="checkpointer", daemon=True)
        self._config = config
        self._most = config.checkpoint_pages
        self._path = data_dir / database.DATABASE
        self._ledger = ledger
        self._full = self._most * 3 // 2
        self._wake = threading.Event()
        self._emptied = threading.Event()
        self._ending = False
        self._grown = 0  # pages of the log at the last commit
        self._commits = 0
        self._synced_at = 0.0
        self._held_since: float | None = None

    def make_way(self) -> None:
        """Before a group: let the log be emptied first where it has outgrown what one group may add to.

        Not while a reader is in the way, for it may be long; then the log grows, and status and metrics say so.
        """
        if self._grown < self._full or self._held_since is not None or not self.is_alive():
            return
        self._emptied.clear()
        self._wake.set()
        self._emptied.wait(_PATIENCE_S)

    def oldest_reader(self) -> float:
        """Seconds for which a reader has kept the log from being begun anew; 0 while none does. Any thread may ask."""
        since = self._held_since
        return 0.0 if since is None else time.monotonic() - since

    def watch(self, db: apsw.Connection) -> None:
        """Be told of the commits of this connection, which then checkpoints no more by itself."""
        self._ledger.attach(db, self._after_commit)

    def _after_commit(self, pages: int) -> None:
        self._grown = pages
        self._commits += 1
        if pages >= self._most and not self._wake.is_set():
            self._wake.set()

    def stop(self) -> None:
        self._ending = True
        self._wake.set()
        if self.is_alive():
            self.join()

    def run(self) -> None:
        db = database.connect(self._path, self._config)
        db.set_busy_timeout(int(_READER_S * 1000))
        seen, since = -1, time.monotonic()
        try:
            while not self._ending:
                self._wake.wait(timeout=_IDLE_S)
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
        if idle:
            self._cut(db)
        elif self._grown >= self._most:
            pages, moved = db.wal_checkpoint("main", apsw.SQLITE_CHECKPOINT_PASSIVE)
            if pages != moved:  # else the next commit begins the log anew by itself
                db.wal_checkpoint("main", apsw.SQLITE_CHECKPOINT_RESTART)
            self._grown = 0
        if time.monotonic() - self._synced_at >= _SYNC_S:
            self._synced_at = time.monotonic()
            self._ledger.sync()

    def _cut(self, db: apsw.Connection) -> None:
        with contextlib.suppress(FileNotFoundError):
            if self._path.with_name(self._path.name + "-wal").stat().st_size:
                db.wal_checkpoint("main", apsw.SQLITE_CHECKPOINT_TRUNCATE)
