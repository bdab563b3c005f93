"""Which engine keeps the events? [storage] engine says; nobody outside storage names one, its SQL or its driver."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Protocol

from collector.config import Config, StoreConfig
from collector.core.capi.states import CapiState
from collector.core.ids import PublicIds
from collector.core.keyed import KeyedHash
from collector.core.matching import Model
from collector.core.shares import Share
from collector.core.trusted import Reading
from collector.exchange.clock import Clock
from collector.exchange.keys import ApiKey, Kind
from collector.exchange.operations import Submission
from collector.exchange.rows import ClickRow
from collector.exchange.shops import Waiting
from collector.exchange.states import Attempt, Delivery, EventState
from collector.exchange.stores import Store
from collector.storage.rules.keys import NewKey
from collector.storage.rules.replays import Replayed
from collector.storage.rules.shares import Kept
from collector.storage.verbs.shop_files import Files


class Journal(Protocol):
    """The keeper's door to what is stored; all of it belongs to one thread. It raises StorageError and ApiError."""

    clock: Clock
    names: KeyedHash
    public: PublicIds
    stores: dict[str, Store]

    def start(self) -> None:
        """Begin what goes on beside the groups."""

    def commit(self, waiting: deque[Submission]) -> Sequence[Submission]:
        """Take the next group off `waiting` and return it once it is safe, each submission with its results.

        A result is a value, an ApiError too. A submission of which nothing was stored has an exception instead:
        StorageError where storage refused it or nobody knows, its own defect otherwise.
        """

    def rest(self) -> bool:
        """Upkeep between groups, after their answers; whether there is more of it."""

    def count(
        self,
        figures: Iterable[tuple[int, str, int]],
        totals: Mapping[str, int],
        refused: Iterable[tuple[str, str, str]] = (),
    ) -> None:
        """Add to daily figures (store, name, by how many) and to running ones; a crash may lose seconds of them."""

    def conversion(self, row_id: int) -> tuple[EventState, list[Delivery], list[Attempt]] | None:
        """A committed conversion with its deliveries and every attempt; None when there is none."""

    def inbox(self) -> list[Waiting]:
        """The oldest orders that a pull or a file has found."""

    def click(self, row_id: int) -> tuple[ClickRow, list[int]] | None:
        """A committed click and the conversions that it was given."""

    @property
    def erased(self) -> Mapping[int, int]:
        """Names of those who were erased, and when (ms); it only grows, the newest last."""

    @property
    def waiting(self) -> int:
        """Grows whenever another process has written and orders wait in the inbox."""

    @property
    def keys(self) -> Mapping[bytes, ApiKey]:
        """The keys in force by their digest; what a command did is seen within seconds."""

    @property
    def refusing(self) -> bool:
        """Whether there is no room to take anything."""

    @property
    def able(self) -> bool:
        """Whether an event could be stored now, as far as is known."""

    @property
    def distrusted(self) -> bool:
        """Whether nothing more may be acknowledged by this process."""

    @property
    def damage(self) -> str | None:
        """What is lost or damaged, in a sentence with the mend, until it is mended or accepted."""

    def close(self) -> None:
        """Write the last figures and let go."""


def journal(config: Config, clock: Clock) -> Journal:
    """The journal of the engine that is chosen, open; StorageError says why it cannot be used."""
    if config.storage.engine == "postgres":
        from collector.storage.postgres.journal import PostgresJournal

        return PostgresJournal(config, clock)
    from collector.storage.journal import journal as sqlite

    return sqlite.Journal(config, clock)


class Keys(Protocol):
    """API keys; `now` in ms."""

    def create(self, store: str | None, kind: Kind, now: int) -> NewKey:
        """Make a key; a publishable one belongs to a store."""

    def list(self) -> list[ApiKey]:
        """Every key, the oldest first, revoked ones too."""

    def revoke(self, key_id: str, now: int) -> bool:
        """End a key; True when it was in force."""


@contextmanager
def keys(config: Config, *, makes: bool = False) -> Iterator[Keys]:
    """The keys of what is stored; `makes`: a database that is not there yet is made."""
    if config.storage.engine == "postgres":
        from collector.storage.postgres import keys as there

        yield there.Keys(config.storage)
        return
    from collector.storage.ground import database
    from collector.storage.ground import keys as here

    path = Path(config.storage.data_dir) / database.DATABASE
    # One that is there is looked at for damage as well.
    opening = database.open_database if makes and not database.is_there(path) else database.open_existing
    with closing(opening(config.storage)) as db:
        yield here.Keys(db)


class Shares(Protocol):
    """Shared links; `now` in ms."""

    def put(self, share: Share, now: int) -> None:
        """Have a link count from now on."""

    def list(self) -> list[Kept]:
        """Every link that was ever made, the oldest first."""

    def revoke(self, share_id: str, now: int) -> bool:
        """End a link; True when it counted."""


@contextmanager
def shares(config: Config) -> Iterator[Shares]:
    """The links to what is stored."""
    if config.storage.engine == "postgres":
        from collector.storage.postgres import shares as there

        yield there.Shares(config.storage)
        return
    from collector.storage.ground import database
    from collector.storage.ground import shares as here

    with closing(database.open_existing(config.storage)) as db:
        yield here.Shares(db)


def public_ids(config: Config) -> PublicIds:
    """What outsiders call the rows; StorageError where there is no database, or its key is not there."""
    if config.storage.engine == "postgres":
        from collector.storage.postgres import commanded, peppers

        key = commanded.asked(config.storage, lambda connection: peppers.load(connection, config))
    else:
        from collector.storage.ground import database

        with closing(database.open_existing(config.storage)) as db:
            key = database.load_pepper(db, Path(config.storage.data_dir), config.privacy.pepper_file)
    return PublicIds(KeyedHash(key).subkey("public ids"))


def replay(
    config: Config,
    states: Sequence[CapiState],
    *,
    now: int,
    store: str | None = None,
    since: int = 0,
    dry_run: bool = False,
) -> list[Replayed]:
    """Put settled events of these states back into the queue; `dry_run` only says what would happen. Times in ms."""
    if config.storage.engine == "postgres":
        from collector.storage.postgres.replay import replay as there

        return list(there(config.storage, states, now=now, store=store, since=since, dry_run=dry_run))
    from collector.storage.ground import database
    from collector.storage.outbox.replay import replay as here

    with closing(database.open_existing(config.storage)) as db:
        return list(here(db, states, now=now, store=store, since=since, dry_run=dry_run))


def learn(config: Config, now: int, store: str | None = None) -> dict[str, Model]:
    """A night's lesson at once, for all stores or one; the new models by store id. `now` in ms.

    StorageError where there is no database, or it cannot be learnt from at this moment.
    """
    if config.storage.engine == "postgres":
        from collector.storage.postgres.learning import at_once as there

        return there(config, now, store)
    from collector.storage.ground import database
    from collector.storage.learning.learning import at_once as here

    with closing(database.open_existing(config.storage)) as db:
        return here(db, config, now, store)


def shop_files(config: Config, store: StoreConfig) -> Files:
    """What compares a shop's export with what is stored; StorageError says why it cannot."""
    if config.storage.engine == "postgres":
        from collector.storage.postgres import files as there

        return there.Files(config, store)
    from collector.storage.shops import files as here

    return here.Files(config, store)


class KeptClock(Protocol):
    """The mark of this machine's clock."""

    def accept(self, now: Reading) -> None:
        """A person says that the system's clock is right; a running collector sees it within seconds."""


@contextmanager
def clock(config: Config) -> Iterator[KeptClock]:
    """What is believed of this machine's clock; StorageError where there is no database."""
    if config.storage.engine == "postgres":
        from collector.storage.postgres.delivering import KeptClock as There
        from collector.storage.postgres.threaded import Threaded

        with Threaded(config.storage, "collector clock") as threaded:
            yield There(threaded)
        return
    from collector.storage.ground.clock import Kept
    from collector.storage.ground.database import open_existing

    with closing(open_existing(config.storage)) as db:
        yield Kept(db)
