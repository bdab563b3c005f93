"""The edge's storage: clicks and conversions appended in groups, matched in the same transaction, readable at once."""

from __future__ import annotations

import asyncio
import threading
import time
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import apsw
from msgspec import Struct

from collector import telemetry
from collector.config import Config
from collector.core.ids import PublicIds
from collector.core.keyed import KeyedHash
from collector.errors import ApiError, StorageError
from collector.storage import database, index, keys, stores
from collector.storage.clicks import Clicks, NewClick
from collector.storage.conversions import Conversions, NewEvent
from collector.storage.lookup import Lookup
from collector.storage.remembered import Remember, recall
from collector.storage.stores import Store
from collector.storage.subjects import CLICKS, CONVERSIONS
from collector.storage.writer import GroupWriter, outcome

log = telemetry.logger("journal")

FOLD_ROWS = 10_000  # fold when the tail has so many: smaller steps cost more per row, larger ones a higher p99 (traps)
_SPACE_CHECK_S = 0.25
_KEYS_CHECK_S = 1.0
_DAY_MS = 86_400_000
_LEARN_STEP = 20_000
_IDEMPOTENCY_MS = _DAY_MS


class Once(Struct, frozen=True):
    """An operation: do these under an Idempotency-Key, or give the answer that they had the first time.

    `render` makes the answer (status, body) of the inner results, in the same transaction as their effects. An ApiError
    that it raises is not remembered.
    """

    operations: Sequence[NewClick | NewEvent]
    key_k: int
    body_hash: bytes
    render: Callable[[list[Any]], tuple[int, bytes]]


class Answered(Struct, frozen=True):
    """The result of Once."""

    status: int
    answer: bytes
    replayed: bool
    results: Sequence[Any] = ()


Operation = NewClick | NewEvent | Once | Remember


class Journal:
    """One edge's door to the database. Open it on the event loop; every method but those of the writer is the loop's."""

    def __init__(self, config: Config, clock: Callable[[], int]) -> None:
        """Open or make the database; StorageError says why it cannot be used. `clock` gives milliseconds."""
        self._config = config
        self._clock = clock
        self.data_dir: Path = database.prepare_data_dir(config.storage)
        pepper = database.load_pepper(self.data_dir, config.privacy.pepper_file)
        self.names = KeyedHash(pepper)
        self.public = PublicIds(self.names.subkey("public ids"))
        self._db = database.open_database(config.storage)
        self._db.pragma("wal_autocheckpoint", 0)  # the folder checkpoints, away from the acknowledging path
        self.stores: dict[str, Store] = stores.load(self._db, config)
        folded = index.open_index(self.data_dir, config.storage)
        self._transaction = _Transaction(self._db, config, self.data_dir, clock)
        self._writer: GroupWriter | None = None
        self._folder = _Folder(config, self.data_dir, self._transaction, folded)
    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to take operations."""
        self._transaction.refresh_keys(force=True)
        self._writer = GroupWriter(self._transaction, loop)
        self._folder.start()

    def submit(self, operations: Sequence[Operation]) -> asyncio.Future[list[Any]]:
        """One result per operation, once all of them are on disk; see GroupWriter.submit."""
        assert self._writer is not None, "start() first"
        return self._writer.submit(operations)

    @property
    def refusing(self) -> bool:
        """Whether the disk is too full to take anything."""
        return self._transaction.refusing

    def key(self, hashed: bytes) -> keys.ApiKey | None:
        """The key in force with this digest; what `keys create` and `keys revoke` did is seen within seconds."""
        return self._transaction.keys.get(hashed)

    def tail_rows(self) -> int:
        """Rows that only the tail can find yet."""
        return len(self._transaction.lookup.clicks)

    def close(self) -> None:
        """Commit what waits and close the files."""
        if self._writer is not None:
            self._writer.close()
        self._folder.stop()
        self._transaction.lookup.close()
        self._db.close()


class _Transaction:
    """The writer's side: begins, applies, commits; notices a full disk and revoked keys between groups."""

    def __init__(self, db: apsw.Connection, config: Config, data_dir: Path, clock: Callable[[], int]) -> None:
        self._db = db
        self._clock = clock
        self._now = 0
        self.lookup = Lookup(db, data_dir, config.storage)
        self.clicks = Clicks(db, self.lookup, config.matching.click_days * _DAY_MS)
        self.clicks.learn(self.lookup.clicks.names_of("fbclid"))
        self.conversions = Conversions(db, self.lookup, self.clicks)
        self.keys: dict[bytes, keys.ApiKey] = {}
        self._keys_at = 0.0
        self._space = _Space(data_dir, config)
        self._committed = dict(self.lookup.last)
        self.folded = threading.Event()
        self.learned: list[Sequence[int]] = []  # names for the duplicate filter, from the folder's thread
        self.all_learned = threading.Event()
        self.wants_fold = threading.Event()

    @property
    def refusing(self) -> bool:
        return self._space.refusing

    def begin(self) -> None:
        self._space.check()
        if self._space.refusing:
            raise StorageError("the disk is full")
        self._now = self._clock()
        self._db.execute("BEGIN IMMEDIATE")
        self.lookup.catch_up_if_behind()

    def apply(self, operation: Operation) -> Any:
        if type(operation) is NewClick:
            return self.clicks.append(operation)
        if type(operation) is NewEvent:
            return self.conversions.take(operation, self._now)
        if type(operation) is Remember:
            return recall(self.lookup, operation)
        return self._once(operation)

    def _once(self, operation: Once) -> Answered:
        known = self._db.execute(
            "SELECT body_hash, status, answer FROM idempotency WHERE key_k = ? AND expires > ?",
            (operation.key_k, self._now),
        ).fetchone()
        if known is not None:
            if known[0] != operation.body_hash:
                raise ApiError("idempotency_conflict", "this Idempotency-Key was used with another body")
            return Answered(known[1], known[2], True)
        results = [outcome(self.apply, inner) for inner in operation.operations]
        status, answer = operation.render(results)
        self._db.execute(
            "INSERT OR REPLACE INTO idempotency VALUES (?, ?, ?, ?, ?)",
            (operation.key_k, operation.body_hash, self._now + _IDEMPOTENCY_MS, status, answer),
        )
        return Answered(status, answer, False, results)

    def commit(self) -> None:
        try:
            self.clicks.flush()
            self._db.execute("COMMIT")
        except apsw.FullError:
            self._space.full()
            raise
        self._committed = dict(self.lookup.last)

    def rollback(self) -> None:
        self.clicks.forget()
        self.lookup.retract(self._committed)
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        except apsw.Error as error:
            log.failed("a rollback failed", error)

    def idle(self) -> None:
        """Upkeep between groups."""
        if self.folded.is_set():
            self.folded.clear()
            self.lookup.folded()
        while self.learned:
            self.clicks.learn(list(self.learned.pop()))
        if self.all_learned.is_set() and not self.learned:
            self.clicks.filtered = True
        if len(self.lookup.clicks) >= FOLD_ROWS or len(self.lookup.conversions) >= FOLD_ROWS:
            self.wants_fold.set()
        self.refresh_keys()
        self._space.check()

    def refresh_keys(self, *, force: bool = False) -> None:
        if force or time.monotonic() - self._keys_at >= _KEYS_CHECK_S:
            self._keys_at = time.monotonic()
            self.keys = {key.hash: key for key in keys.list_keys(self._db) if key.revoked is None}


class _Space:
    """Whether the disk has room; keeps a reserve so that the mend of a full disk is possible."""

    def __init__(self, data_dir: Path, config: Config) -> None:
        self._ballast = database.Ballast(data_dir, config.storage)
        self._checked = 0.0
        self.refusing = False
        self._ballast.keep()

    def check(self) -> None:
        if time.monotonic() - self._checked < _SPACE_CHECK_S:
            return
        self._checked = time.monotonic()
        if self.refusing:
            self.refusing = not self._ballast.regained()
        elif self._ballast.low():
            log.error("the disk is nearly full: refusing posts")
            self.refusing = True

    def full(self) -> None:
        """The disk refused a write: refuse posts and free the ballast."""
        log.error("the disk is full: refusing posts")
        self.refusing = True
        self._ballast.release()


class _Folder(threading.Thread):
    """Folds the tail into the index and checkpoints the WAL, beside the writer."""

    def __init__(self, config: Config, data_dir: Path, transaction: _Transaction, db: apsw.Connection) -> None:
        super().__init__(name="folder", daemon=True)
        self._db = db
        self._config = config
        self._data_dir = data_dir
        self._transaction = transaction
        self._ending = threading.Event()

    def stop(self) -> None:
        self._ending.set()
        self._transaction.wants_fold.set()
        if self.is_alive():
            self.join()

    def run(self) -> None:
        db = self._db
        main = database.connect(self._data_dir / database.DATABASE, self._config.storage)
        try:
            self._learn(db)
            while not self._ending.is_set():
                self._transaction.wants_fold.wait(timeout=1.0)
                self._transaction.wants_fold.clear()
                self._step(db, main)
        finally:
            main.close()
            db.close()

    def _learn(self, db: apsw.Connection) -> None:
        """Read the click ids of the index into the duplicate filter, newest last, without holding anybody up."""
        table = CLICKS.index_table("fbclid")
        names = array("q")
        for (k,) in db.execute(f"SELECT k FROM main.{table}"):
            names.append(k)
            if len(names) >= _LEARN_STEP:
                self._transaction.learned.append(names)
                names = array("q")
                if self._ending.wait(0.01):
                    return
        self._transaction.learned.append(names)
        self._transaction.all_learned.set()

    def _step(self, db: apsw.Connection, main: apsw.Connection) -> None:
        try:
            for subject in (CLICKS, CONVERSIONS):
                while len(self._transaction.lookup.tail_of(subject)) >= FOLD_ROWS and not self._ending.is_set():
                    before = index.watermark(db, subject)
                    if index.fold(db, subject, 2 * FOLD_ROWS) == before:
                        break
                    self._transaction.folded.set()
                    time.sleep(0.002)  # let the writer drop what is folded
            self._checkpoint(main)
        except apsw.Error as error:
            log.failed("the index could not be folded", error)
            self._ending.wait(1.0)

    def _checkpoint(self, main: apsw.Connection) -> None:
        """Move the WAL into the file; when it has grown far past its limit, make the writer wait for the rest."""
        wal = self._data_dir / (database.DATABASE + "-wal")
        limit = self._config.storage.checkpoint_pages * main.pragma("page_size")
        size = wal.stat().st_size if wal.exists() else 0
        if size >= limit:
            main.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        if size >= 2 * limit:
            main.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)
