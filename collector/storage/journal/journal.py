"""The keeper's storage: clicks and conversions appended in groups, matched in the same transaction."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from collector import telemetry
from collector.config import Config
from collector.core.ids import PublicIds
from collector.core.keyed import KeyedHash
from collector.exchange.clock import Clock
from collector.exchange.keys import ApiKey
from collector.exchange.operations import Submission
from collector.exchange.rows import ClickRow
from collector.exchange.shops import Waiting
from collector.exchange.states import Attempt, Delivery, EventState
from collector.exchange.stores import Store
from collector.storage.ground import acknowledged, damage, database, losses, stores
from collector.storage.ground import clock as clocks
from collector.storage.ground.acknowledged import Ledger
from collector.storage.ground.checkpoints import Checkpointer
from collector.storage.index import index
from collector.storage.journal.flusher import Flusher
from collector.storage.journal.reader import Reader
from collector.storage.journal.transaction import GroupTransaction
from collector.storage.journal.writer import GroupWriter
from collector.storage.shops.inbox import Inbox

log = telemetry.logger("storage")


class Journal:
    """The keeper's door to the database. All methods belong to one thread."""

    def __init__(self, config: Config, clock: Clock) -> None:
        """Open or make the database; StorageError says why it cannot be used."""
        self.clock = clock
        self.data_dir: Path = database.prepare_data_dir(config.storage)
        with damage.explaining(self.data_dir / database.DATABASE):
            self._open(config, clock)

    def _open(self, config: Config, clock: Clock) -> None:
        crowded = database.Ballast(self.data_dir, config.storage).make_room()
        self._db = database.plan_once(database.open_database(config.storage))
        self.names = KeyedHash(database.load_pepper(self._db, self.data_dir, config.privacy.pepper_file))
        self.public = PublicIds(self.names.subkey("public ids"))
        if (lost := damage.told(self.data_dir)) is not None:
            log.error(lost)
        with database.immediate(self._db):
            self.stores: dict[str, Store] = stores.load(self._db, config)
        clocks.refresh(clock, self._db)
        self._ledger = self._opened_ledger()
        folded = index.open_index(self.data_dir, config.storage)
        self._transaction = GroupTransaction(
            self._db, config, self.data_dir, self.names, self.stores, self._ledger, clock
        )
        if crowded:
            self._transaction.refuse()
        self._writer = GroupWriter(self._transaction)
        self._inbox = Inbox(self._db)
        self._reader = Reader(self.data_dir, config.storage)
        self._flusher = Flusher(config, self.data_dir, self._transaction, folded)
        self._checkpointer = Checkpointer(config.storage, self.data_dir, self._ledger)
        self._checkpointer.watch(self._db)
        self._transaction.make_way = self._checkpointer.make_way
        self._transaction.oldest_reader = self._checkpointer.oldest_reader

    def _opened_ledger(self) -> Ledger:
        """The note of what is acknowledged; after a crash only once the database is found whole."""
        path = self.data_dir / database.DATABASE
        ledger = Ledger(self.data_dir, acknowledged.EDGE)
        if ledger.crashed:
            losses.check(self._db, path)
        return ledger

    def start(self) -> None:
        """Begin to keep the index, in a thread."""
        self._transaction.refresh_keys(force=True)
        self._flusher.start()
        self._checkpointer.start()

    def commit(self, waiting: deque[Submission]) -> Sequence[Submission]:
        """Take the next group off `waiting` and return it once it is on disk; see GroupWriter.commit."""
        return self._writer.commit(waiting)

    def rest(self) -> bool:
        """Upkeep between groups; whether there is more of it."""
        return self._writer.rest()

    def count(
        self,
        figures: Iterable[tuple[int, str, int]],
        totals: Mapping[str, int],
        refused: Iterable[tuple[str, str, str]] = (),
    ) -> None:
        """Add to daily figures (store, name, by how many) and to running ones; a crash may lose seconds of them.

        `refused`: code, field and order's number of some that were refused of the merchant's own.
        """
        self._transaction.refusals.add(refused)
        for store, name, n in figures:
            self._transaction.daily[store, name] += n
        self._transaction.grown.update(totals)

    def conversion(self, row_id: int) -> tuple[EventState, list[Delivery], list[Attempt]] | None:
        """A committed conversion with its deliveries and every attempt; None when there is none."""
        return self._reader.conversion(row_id)

    def inbox(self) -> list[Waiting]:
        """The oldest orders that a pull or a file has found."""
        return self._inbox.oldest()

    def click(self, row_id: int) -> tuple[ClickRow, list[int]] | None:
        """A committed click and the conversions that it was given."""
        return self._reader.click(row_id)

    @property
    def erased(self) -> Mapping[int, int]:
        """Names of those who were erased, and when (ms); it only grows, the newest last."""
        return self._transaction.erased.names

    @property
    def waiting(self) -> int:
        """Grows whenever another process has written and orders wait in the inbox."""
        return self._transaction.inbox

    @property
    def keys(self) -> Mapping[bytes, ApiKey]:
        """The keys in force by their digest; what `keys create` and `keys revoke` did is seen within seconds."""
        return self._transaction.keys

    @property
    def refusing(self) -> bool:
        """Whether the disk is too full to take anything."""
        return self._transaction.refusing

    @property
    def able(self) -> bool:
        """Whether an event could be stored now, as far as the last write tells."""
        return not (self._transaction.refusing or self._transaction.broken)

    @property
    def distrusted(self) -> bool:
        """Whether nothing more may be acknowledged by this process: the disk failed a sync."""
        return self._writer.distrusted

    @property
    def damage(self) -> str | None:
        """What is lost or damaged, in a sentence with the mend, until it is mended or accepted."""
        return self._transaction.damage

    def tail_rows(self) -> int:
        """Rows that only the tail can find yet."""
        return len(self._transaction.lookup.clicks)

    def close(self) -> None:
        """Write the last figures and close the files."""
        self._transaction.end()
        self._checkpointer.stop()
        self._flusher.stop()
        self._transaction.lookup.close()
        self._reader.close()
        self._db.close()
        self._checkpointer.close()
        self._ledger.close()
