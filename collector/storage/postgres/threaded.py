"""How do threads ask PostgreSQL, and wait? One loop in a thread of its own runs every question."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from threading import Thread
from typing import Any, Final, TypeVar

from asyncpg import exceptions as pg

from collector.config import StorageConfig
from collector.errors import StorageError, Unavailable
from collector.storage.postgres import faults
from collector.storage.postgres.connecting import Connection
from collector.storage.postgres.opening import opened

T = TypeVar("T")
# A full disk, no connection free, a lock, a server that ends, starts or is another one by now.
_PASSING: Final = (
    pg.InsufficientResourcesError,
    pg.OperatorInterventionError,
    pg.TransactionRollbackError,
    pg.LockNotAvailableError,
    pg.ReadOnlySQLTransactionError,
)


class Threaded:
    """A database, open until `close`; asked from any thread but the loop's own. StorageError: why it cannot be used.

    `changes`: as for a command's one question (commanded.py).
    """

    def __init__(self, storage: StorageConfig, name: str, *, changes: bool = False) -> None:
        self._loop = _new_loop()
        self._beside: list[asyncio.Task[None]] = []
        self._thread = Thread(target=self._loop.run_forever, name="postgres", daemon=True)
        self._thread.start()
        try:
            self.database, self.facts = self._run(opened(storage, name, takes=changes))
        except BaseException:
            self._end()
            raise

    def __enter__(self) -> Threaded:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, work: Callable[[Connection], Awaitable[T]], seconds: float | None = None) -> T:
        """What `work` gives, done in one transaction; Unavailable where the same may work in a moment.

        `seconds`: that it may take, `group_timeout_seconds` unless given.
        """
        try:
            return self._run(self.database.attempt(work, seconds))
        except _PASSING as error:
            raise Unavailable(str(faults.explained(error, self.database.at))) from error
        except StorageError as error:
            raise Unavailable(str(error)) from error

    def beside(self, work: Coroutine[Any, Any, None]) -> None:
        """Have this run on the loop until `close`."""

        async def begin() -> None:
            self._beside.append(asyncio.get_running_loop().create_task(work))

        self._run(begin())

    def _run(self, question: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(question, self._loop).result()

    def close(self) -> None:
        """Close the connections and end the thread."""
        try:
            self._run(self._leave())
        finally:
            self._end()

    async def _leave(self) -> None:
        for task in self._beside:
            task.cancel()
        await asyncio.gather(*self._beside, return_exceptions=True)
        await self.database.close()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
