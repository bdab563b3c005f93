"""The edge's storage: clicks and conversions appended in groups, matched in the same transaction, readable at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from collector import telemetry
from collector.config import Config
from collector.core.ids import PublicIds
from collector.core.keyed import KeyedHash
from collector.storage import acknowledged, damage, database, index, keys, losses, stores
from collector.storage.acknowledged import Ledger
from collector.storage.checkpoints import Checkpointer
from collector.storage.clock import Clock
from collector.storage.folder import Folder
from collector.storage.stores import Store
from collector.storage.transaction import GroupTransaction, Operation
from collector.storage.writer import GroupWriter

log = telemetry.logger("storage")


class Journal:
    """One edge's door to the database. Open it on the event loop; all methods but the writer's are the loop's."""

    def __init__(self, config: Config, clock: Clock) -> None:
        """Open or make the database; StorageError says why it cannot be used."""
        self.clock = clock
        self.data_dir: Path = database.prepare_data_dir(config.storage)
        with damage.explaining(self.data_dir / database.DATABASE):
            self._open(config, clock)

    def _open(self, config: Config, clock: Clock) -> None:
        crowded = database.Ballast(self.data_dir, config.storage).make_room()
        self._db = database.open_database(config.storage)
        self.names = KeyedHash(database.load_pepper(self._db, self.data_dir, config.privacy.pepper_file))
        self.public = PublicIds(self.names.subkey("public ids"))
        if (lost := damage.told(self.data_dir)) is not None:
            log.error(lost)
        with database.immediate(self._db):
            self.stores: dict[str, Store] = stores.load(self._db, config)
        clock.refresh(self._db)
        self._ledger = self._opened_ledger()
        folded = index.open_index(self.data_dir, config.storage)
        self._transaction = GroupTransaction(
            self._db, config, self.data_dir, self.names, self.stores, self._ledger, clock
        )
        if crowded:
            self._transaction.refuse()
        self._writer: GroupWriter | None = None
        self._folder = Folder(config, self.data_dir, self._transaction, folded)
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

    def start(self, loop: asyncio.AbstractEventLoop, totals: Callable[[], Mapping[str, int]] = dict) -> None:
        """Begin to take operations.

        `totals`: this process's running figures, by name, which only grow; what came to them is added to the
        installation's with each sign of life. Called on the writer's thread.
        """
        self._transaction.totals = totals
        self._transaction.refresh_keys(force=True)
        self._writer = GroupWriter(self._transaction, loop)
        self._folder.start()
        self._checkpointer.start()

    def submit(self, operations: Sequence[Operation]) -> asyncio.Future[list[Any]]:
        """One result per operation, once all of them are on disk; see GroupWriter.submit."""
        assert self._writer is not None, "start() first"
        return self._writer.submit(operations)

    def count(self, store: int, name: str) -> None:
        """Add one to a daily figure of a store; figures are written between groups: a crash may lose a few seconds."""
        self._transaction.figures.append((store, name))

    def is_erased(self, name: int) -> bool:
        """Whether this keyed name (of a visitor, say) belonged to somebody who was erased; any thread may ask."""
        return self._transaction.erased.holds(name)

    @property
    def refusing(self) -> bool:
        """Whether the disk is too full to take anything."""
        return self._transaction.refusing

    @property
    def able(self) -> bool:
        """Whether an event could be stored now, as far as the last write tells."""
        return not (self._transaction.refusing or self._transaction.broken)

    @property
    def damage(self) -> str | None:
        """What is lost or damaged, in a sentence with the mend, until it is mended or accepted."""
        return self._transaction.damage

    def key(self, hashed: bytes) -> keys.ApiKey | None:
        """The key in force with this digest; what `keys create` and `keys revoke` did is seen within seconds."""
        return self._transaction.keys.get(hashed)

    def tail_rows(self) -> int:
        """Rows that only the tail can find yet."""
        return len(self._transaction.lookup.clicks)

    def close(self) -> None:
        """Commit what waits, write the last figures, and close the files."""
        if self._writer is not None:
            self._writer.close()
            self._transaction.beat()
        self._checkpointer.stop()
        self._folder.stop()
        self._transaction.lookup.close()
        self._db.close()
        self._ledger.close()
