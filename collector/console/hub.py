"""What is happening, read once for all who look: the newest happenings, and a bounded number of open streams."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Final

from collector.config import Config
from collector.errors import StorageError
from collector.storage.reports.live import KINDS, Follower, Item
from collector.storage.reports.names import public_ids
from collector.storage.reports.questions import Reading

NEWEST: Final = 200
MOST_STREAMS: Final = 32  # a stream is a connection and 256 items at most; each address may have 50 connections
_BEHIND: Final = 256
_EVERY_SECONDS: Final = 1.0
QUIET_SECONDS: Final = 15.0  # then a comment is sent, so that proxies and the browser know the stream alive
_LONGEST_SECONDS: Final = 600.0  # then the browser asks again, and its session is looked at again

Batch = list[Item]


class Full(Exception):
    """As many streams are open as there may be."""


class Hub:
    """Reads while somebody looks, and only then."""

    def __init__(self, reader: Reading, config: Config, clock: Callable[[], int]) -> None:
        self._reader, self._config, self._clock = reader, config, clock
        self._items: deque[Item] = deque(maxlen=NEWEST)
        self._streams: set[asyncio.Queue[Batch | None]] = set()
        self._follower: Follower | None = None
        self._reading: asyncio.Task[None] | None = None
        self._one = asyncio.Lock()

    async def newest(self) -> Batch:
        """The newest happenings, the newest first."""
        async with self._one:
            if self._reading is None:
                await self._begin()
        return list(self._items)[::-1]

    def stream(self) -> AsyncIterator[Batch | None]:
        """First all that is newest, then what comes, each oldest first; None: nothing came, say so. Full raises.

        It ends with the process, after ten minutes, or where its reader is too slow: the browser asks again.
        """
        if len(self._streams) >= MOST_STREAMS:
            raise Full
        return self._told()

    async def _told(self) -> AsyncIterator[Batch | None]:
        mine: asyncio.Queue[Batch | None] = asyncio.Queue(_BEHIND)
        self._streams.add(mine)
        try:
            yield await self._join()
            with suppress(TimeoutError):
                async with asyncio.timeout(_LONGEST_SECONDS):
                    while mine in self._streams:
                        yield await self._next(mine)
        finally:
            self._streams.discard(mine)

    async def _next(self, mine: asyncio.Queue[Batch | None]) -> Batch | None:
        with suppress(TimeoutError):
            async with asyncio.timeout(QUIET_SECONDS):
                return await mine.get()
        return None

    def close(self) -> None:
        """End every stream."""
        for mine in list(self._streams):
            self._drop(mine)

    def _drop(self, mine: asyncio.Queue[Batch | None]) -> None:
        self._streams.discard(mine)
        if mine.full():
            mine.get_nowait()
        mine.put_nowait(None)

    async def _join(self) -> Batch:
        async with self._one:
            if self._reading is None or self._reading.done():
                await self._begin()
                self._reading = asyncio.ensure_future(self._keep_reading())
            return list(self._items)

    async def _begin(self) -> None:
        ids = await public_ids(self._reader, self._config)
        self._follower = Follower(self._reader, ids, store=None, pixels=(), kinds=set(KINDS))
        await self._follower.begin(self._clock(), NEWEST)
        self._items.clear()
        self._items.extend(await self._follower.step(self._clock()))

    async def _keep_reading(self) -> None:
        try:
            while self._streams:
                await asyncio.sleep(_EVERY_SECONDS)
                with suppress(StorageError):  # a slow disk, a restore: the next round tries again
                    self._tell(await self._step())
        finally:
            self._reading = None

    async def _step(self) -> Batch:
        assert self._follower is not None
        return await self._follower.step(self._clock())

    def _tell(self, found: Batch) -> None:
        self._items.extend(found)
        for mine in list(self._streams) if found else []:
            if mine.full():
                self._drop(mine)
            else:
                mine.put_nowait(found[-NEWEST:])
