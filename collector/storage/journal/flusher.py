"""The keeper's second thread of storage: keeps the index, beside the writer."""

from __future__ import annotations

import threading
import time
from array import array
from collections.abc import Callable
from pathlib import Path

import apsw

from collector import telemetry
from collector.config import Config
from collector.storage.ground import database
from collector.storage.ground.commits import Commits
from collector.storage.index import changing, index, leaving, merging
from collector.storage.journal.transaction import FOLD_AT_ONCE, FOLD_ROWS, GroupTransaction
from collector.storage.rules.tables import CLICKS, CONVERSIONS

log = telemetry.logger("storage")

_LEARN_STEP = 20_000
_LEARN_AHEAD = 4  # steps that may wait for the writer
_PURGE_ROWS = 2_000  # per key and step: a step is short, so that a stop or a fold never waits for it
_CALM_S = 60.0  # between two rounds where nobody commits and the last one has left nothing
_MERGE_S = 0.5  # of merging before a look at what else there is to do
_MERGE_REST = 3  # times a step's length: a quarter of one processor at most, and only while nothing is to be folded


class Flusher(threading.Thread):
    """Folds the tail into the index and merges its buckets, beside the writer."""

    def __init__(self, config: Config, data_dir: Path, transaction: GroupTransaction, db: apsw.Connection) -> None:
        super().__init__(name="folder", daemon=True)
        self._db = db
        self._config = config
        self._data_dir = data_dir
        self._transaction = transaction
        self._ending = threading.Event()
        self._more = True  # than the last round has done

    def stop(self) -> None:
        self._ending.set()
        self._transaction.wants_fold.set()
        if self.is_alive():
            self.join()

    def run(self) -> None:
        db = self._db
        main = database.connect(self._data_dir / database.DATABASE, self._config.storage)
        commits, due = Commits(main), 0.0
        try:
            self._guarded(lambda: self._learn(db))
            while not self._ending.is_set():
                wanted = self._transaction.wants_fold.wait(timeout=1.0)
                self._transaction.wants_fold.clear()
                self._guarded(lambda: self._look(commits))
                if self._more or wanted or time.monotonic() >= due:
                    self._more, due = False, time.monotonic() + _CALM_S
                    self._guarded(lambda: self._step(db))
                    self._guarded(lambda: self._forget(db, main))
            self._guarded(lambda: index.follow(db))
        finally:
            main.close()
            db.close()

    def _guarded(self, work: Callable[[], None]) -> None:
        """Whatever goes wrong, the thread lives on: without it the tail would grow for ever."""
        try:
            work()
        except Exception as error:
            log.failed("the index could not be kept", error)
            self._transaction.notice(error)
            self._more = True
            self._ending.wait(1.0)

    def _look(self, commits: Commits) -> None:
        """A round is for what somebody has committed, or for what the last one has left."""
        self._more |= commits.happened()

    def _learn(self, db: apsw.Connection) -> None:
        """Read the click ids of the index into the duplicate filter, newest last, without holding anybody up."""
        table = CLICKS.index_table("fbclid")
        names = array("q")
        for (k,) in db.execute(f"SELECT k FROM main.{table}"):
            names.append(k)
            if len(names) >= _LEARN_STEP:
                self._transaction.learned.append(names)
                names = array("q")
                while len(self._transaction.learned) >= _LEARN_AHEAD:
                    if self._ending.wait(0.005):
                        return
                if self._ending.is_set():
                    return
        self._transaction.learned.append(names)
        self._transaction.all_learned.set()

    def _step(self, db: apsw.Connection) -> None:
        index.follow(db)
        for table in (CLICKS, CONVERSIONS):
            while len(self._transaction.lookup.tail_of(table)) >= FOLD_ROWS and not self._ending.is_set():
                before = index.watermark(db, table)
                after = index.fold(db, table, FOLD_AT_ONCE)
                self._transaction.folded.set()
                if after == before:
                    break
                threading.Event().wait(0.002)  # let the writer drop what is folded
            self._more |= len(self._transaction.lookup.tail_of(table)) >= FOLD_ROWS
            self._more |= index.purge(db, table, _PURGE_ROWS) > 0
        self._merge(db)

    def _merge(self, db: apsw.Connection) -> None:
        """Merge full buckets until there is something to fold, for half a second at most."""
        until = time.monotonic() + _MERGE_S
        for table in (CLICKS, CONVERSIONS):
            folded = index.watermark(db, table)
            while (began := time.monotonic()) < until and not self._transaction.wants_fold.is_set():
                if not merging.merge(db, table, folded):
                    break
                self._more = True
                self._transaction.folded.set()  # so that the writer learns how far it is
                self._ending.wait(_MERGE_REST * (time.monotonic() - began))
                if self._ending.is_set():
                    return

    def _forget(self, db: apsw.Connection, main: apsw.Connection) -> None:
        """Take out of the index what was erased or withdrawn; apart, so that its faults keep nothing from folding."""
        leaving.work_off(main, db)
        changing.forget(main, db)
