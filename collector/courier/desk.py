"""How does the event loop ask SQLite without standing still? One thread owns the connection; questions queue for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from collector.errors import StorageError, Unavailable
from collector.storage.delivery import Outbox
from collector.storage.outbox.dispatch import is_temporary
from collector.telemetry import logger

T = TypeVar("T")
_PAUSE_S: Final = 0.5

log = logger("courier")


class Once:
    """Logs why something has to wait once for each reason, until it is over: an outage is one line, not one a turn."""

    def __init__(self, message: str) -> None:
        self._message = message
        self._said = ""

    def failed(self, error: Exception) -> None:
        reason = f"{type(error).__name__}: {error}"
        if reason != self._said:
            log.failed(self._message, error)
        self._said = reason

    def over(self) -> None:
        self._said = ""


class Desk:
    """The courier's thread for SQLite."""

    def __init__(self, outbox: Outbox) -> None:
        self.outbox = outbox
        self._is_told = False
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="outbox")

    async def once(self, question: Callable[[], T]) -> T:
        """Run `question` in the connection's thread; raises what it raises."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, question)

    async def ask(self, question: Callable[[], T]) -> T:
        """As `once`, but while a database is failed over it is asked again."""
        while True:
            try:
                answer = await self.once(question)
            except Unavailable as error:
                self._told(error)
                await asyncio.sleep(_PAUSE_S)
            else:
                self._is_told = False
                return answer

    async def insist(self, writing: Callable[[], T]) -> T:
        """Run `writing` until it works: what Meta has answered must be written down, also after a full disk."""
        while True:
            try:
                return await self.once(writing)
            except Exception as error:
                if not is_temporary(error):
                    raise StorageError("the outbox cannot be written") from error
                self._told(error)
                await asyncio.sleep(_PAUSE_S)

    def _told(self, error: Exception) -> None:
        """Once, until there is an answer again."""
        if not self._is_told:
            self._is_told = True
            log.failed("outbox not writable for the moment", error)

    def close(self) -> None:
        """Wait for the last question."""
        self._thread.shutdown()
