"""A courier's side of PostgreSQL: outbox, upkeep, clock and notices over one loop; has somebody committed?"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import msgspec

from collector.config import Config
from collector.core.matching import Model
from collector.core.trusted import Reading, State, acceptance
from collector.errors import StorageError
from collector.storage.postgres import edges, faults, learning
from collector.storage.postgres.books import PostgresBooks
from collector.storage.postgres.connecting import Connection
from collector.storage.postgres.database import Database
from collector.storage.postgres.duties import Duties
from collector.storage.postgres.notices import PostgresNotices
from collector.storage.postgres.outbox import PostgresOutbox
from collector.storage.postgres.threaded import Threaded
from collector.storage.postgres.upkeep import PostgresUpkeep

_POLL_S: Final = 0.2
# How far the server's log reaches: each commit adds to it, and asking costs the server nothing.
_REACHED: Final = "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"
_READ: Final = "SELECT body FROM clock WHERE host = $1"
_LOCK: Final = "SELECT body FROM clock WHERE host = $1 FOR UPDATE"
_WRITE: Final = "INSERT INTO clock VALUES ($1, $2) ON CONFLICT (host) DO UPDATE SET body = excluded.body"


class Commits:
    """Looked for five times a second. A server that does not answer counts as one: somebody asks it, and learns."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._reached: int | None = None
        self._news = True

    async def watch(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(_POLL_S)
            try:
                async with self._database.connection() as c:
                    reached = await c.fetchval(_REACHED)
            except (*faults.REFUSALS, StorageError):
                reached = None
            self._news = self._news or reached != self._reached or reached is None
            self._reached = reached

    def happened(self) -> bool:
        """Whether anybody has committed since the last call; True for the first."""
        news, self._news = self._news, False
        return news


class KeptClock:
    """The mark of this machine, which rests on its boot-time clock; every machine has one of its own."""

    def __init__(self, threaded: Threaded) -> None:
        self._ask = threaded.ask
        self._host = socket.gethostname()

    def read(self) -> State | None:
        """What is kept; None on a machine that nothing has been delivered from yet."""
        return _state(self._ask(lambda c: c.fetchval(_READ, self._host)))

    def change(self, change: Callable[[State | None], State]) -> None:
        """Keep what `change` makes of it, in one transaction."""

        async def write(c: Connection) -> None:
            before = _state(await c.fetchval(_LOCK, self._host))
            await c.execute(_WRITE, self._host, msgspec.json.encode(change(before)))

        self._ask(write)

    def accept(self, now: Reading) -> None:
        """A person says that the system's clock is right; a running collector sees it within seconds."""
        self.change(lambda before: acceptance(before, now))


def _state(body: bytes | None) -> State | None:
    return msgspec.json.decode(body, type=State) if body is not None else None


class PostgresSide:
    """Open until `close`. StorageError says why the database cannot be used."""

    def __init__(self, config: Config) -> None:
        owner = edges.owner_name()
        self._config = config
        self._threaded = threaded = Threaded(config.storage, f"collector courier {owner}")
        self.outbox = PostgresOutbox(threaded, owner)
        self.upkeep = PostgresUpkeep(threaded)
        self.kept = KeptClock(threaded)
        self.notices = PostgresNotices(threaded, config)
        self.commits = Commits(threaded.database)
        self._duties = Duties(threaded, owner)
        threaded.beside(self.commits.watch())

    def night(self, now: int) -> dict[str, Model]:
        """What a day has taught, once a day, to one of all couriers."""
        return learning.night_if_due(self._threaded, self._duties, self._config, now)

    def books(self) -> PostgresBooks:
        """Over the same connections."""
        return PostgresBooks(self._threaded, self._duties)

    def loss(self) -> str | None:
        """Whether the server has lost what it acknowledged is for the server to say."""
        return None

    def close(self) -> None:
        """Leave what only one may do to others, and end all connections."""
        with suppress(StorageError):
            self._duties.give_all()
        self._threaded.close()
