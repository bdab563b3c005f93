"""The connections of one process to the primary, and its transactions: whole, in time, or not acknowledged.

A commit is never cancelled: a cancelled wait for the standby answers as if it were over, with a warning, and the rows
are on one disk. So at the end of its time a connection is cut, and a warning during a commit is a failure too. What a
cut connection has done is unknown; whoever asks again is recognised.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeVar

from collector.config import StorageConfig
from collector.errors import StorageError, Unavailable
from collector.storage.postgres import faults
from collector.storage.postgres.connecting import Connection, Way, connect, writing

T = TypeVar("T")
_TRIES: Final = 4
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 2.0  # between two searches for a host that takes writes


class Database:
    """Not for several threads or loops. `name`: of the process, as the server's own list shows it.

    `way`: to the host that takes writes unless another is given.
    """

    def __init__(self, storage: StorageConfig, name: str, way: Way | None = None) -> None:
        self._storage, self._name = storage, name
        self._way = way or writing(storage)
        self._room = asyncio.Semaphore(storage.pool)
        self._idle: list[Connection] = []
        self._host = 0
        self._pause_s, self._again_at = 0.0, 0.0
        self._problem: StorageError | None = None
        self.at = ""  # the host of the last connection

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """One for this question alone; StorageError where no host takes writes."""
        async with self._room:
            connection = self._idle.pop() if self._idle else await self._connected()
            try:
                yield connection
            except faults.ReadOnly:
                connection.terminate()
                raise
            except asyncio.CancelledError:
                if not self._way.reads:  # else the driver has the server give the question up, and it is free again
                    connection.terminate()
                raise
            finally:
                self._give_back(connection)

    async def _connected(self) -> Connection:
        if self._problem is not None and time.monotonic() < self._again_at:
            raise self._problem
        try:
            connection, self._host = await connect(self._way, self._name, self._host)
        except StorageError as problem:
            self._pause_s = min(max(2 * self._pause_s, _FIRST_PAUSE_S), _LONGEST_PAUSE_S)
            self._again_at, self._problem = time.monotonic() + self._pause_s, problem
            raise
        self._pause_s, self._problem, self.at = 0.0, None, connection.at
        return connection

    def _give_back(self, connection: Connection) -> None:
        if not connection.is_closed():
            self._idle.append(connection)
            return
        for other in self._idle:  # they lead to the same server
            other.terminate()
        self._idle.clear()

    @asynccontextmanager
    async def statement(self) -> AsyncIterator[Connection]:
        """A connection for one statement that is a transaction by itself; as `transaction` otherwise."""
        async with self.connection() as connection, self._in_time(connection):
            connection.warned.clear()
            yield connection
            self._refuse_a_warning(connection)

    @asynccontextmanager
    async def transaction(self, seconds: float | None = None) -> AsyncIterator[Connection]:
        """BEGIN, what is done inside, COMMIT: when it returns, the standbys have it on disk.

        StorageError where nobody knows, or where it is known that not; another error is rolled back and raised.
        `seconds`: as `group_timeout_seconds` unless given.
        """
        async with self.connection() as connection, self._in_time(connection, seconds):
            await connection.execute("BEGIN")
            try:
                yield connection
                await self._commit(connection)
            except BaseException:
                await _roll_back(connection)
                raise

    async def _commit(self, connection: Connection) -> None:
        connection.warned.clear()
        if await connection.execute("COMMIT") != "COMMIT":
            raise Unavailable(f"{connection.at} rolled a transaction back")
        self._refuse_a_warning(connection)

    @staticmethod
    def _refuse_a_warning(connection: Connection) -> None:
        if connection.warned:
            raise Unavailable(f"{connection.at} warned of a commit, so it may be on one disk alone")

    @asynccontextmanager
    async def _in_time(self, connection: Connection, seconds: float | None = None) -> AsyncIterator[None]:
        within = self._storage.group_timeout_seconds if seconds is None else seconds
        cut = asyncio.get_running_loop().call_later(within, connection.terminate)
        try:
            yield
        except faults.LOST as error:
            connection.terminate()
            said = f"the connection to {connection.at} was lost, or gave no answer in time"
            raise Unavailable(f"{said}; what was asked may be done or not; `collector status` looks at it") from error
        finally:
            cut.cancel()

    async def attempt(self, work: Callable[[Connection], Awaitable[T]], seconds: float | None = None) -> T:
        """`work` in a transaction; where the server asks for it (40001, 40P01) up to three times more."""
        for last in (*(False,) * (_TRIES - 1), True):
            try:
                async with self.transaction(seconds) as connection:
                    return await work(connection)
            except faults.AGAIN as error:
                if last:
                    raise faults.explained(error, self.at) from error
        raise AssertionError

    async def close(self) -> None:
        """End all connections; none may be in use."""
        for connection in self._idle:
            connection.terminate()
        self._idle.clear()


async def _roll_back(connection: Connection) -> None:
    if connection.is_closed():
        return
    try:
        await connection.execute("ROLLBACK")
    except faults.REFUSALS:
        connection.terminate()
