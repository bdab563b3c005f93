"""Requests at a given pace, whether the answers keep up or not: latency counts from when each was due.

A closed loop (wrk) asks less of a server that is slow; a shop's senders do not wait for each other.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final, cast

import uvloop
from msgspec import Struct

from collector.errors import CollectorError

_CONNECTIONS: Final = 64  # a request that finds none free waits, and its latency with it
_PATIENCE_SECONDS: Final = 30.0
_AT_ONCE_SECONDS: Final = 0.001


class Load(Struct, frozen=True):
    """Requests as they go on the wire, in turn, so many a second for so long."""

    requests: list[bytes]
    per_second: float


class Paced(Struct, frozen=True):
    """What came of a load: answers a second, milliseconds, and how many were not 200."""

    rate: float
    p50_ms: float
    p99_ms: float
    failed: int


def run(port: int, seconds: float, loads: Sequence[Load]) -> list[Paced]:
    """Each load beside the others; CollectorError where answers stay out."""
    return uvloop.run(_run(port, seconds, loads))


async def _run(port: int, seconds: float, loads: Sequence[Load]) -> list[Paced]:
    senders = [_Sender(load, round(load.per_second * seconds)) for load in loads]
    async with asyncio.timeout(seconds + _PATIENCE_SECONDS):
        for sender in senders:
            await sender.connect(port)
        began = asyncio.get_running_loop().time()
        await asyncio.gather(*(sender.send(began) for sender in senders))
    return [sender.result(began) for sender in senders]


class _Sender:
    def __init__(self, load: Load, count: int) -> None:
        self._load, self._count = load, count
        self._loop = asyncio.get_running_loop()
        self._free: list[_Connection] = []
        self._waiting: deque[tuple[bytes, float]] = deque()
        self._took: list[float] = []
        self._failed = 0
        self._last = 0.0
        self._done: asyncio.Future[None] = self._loop.create_future()

    async def connect(self, port: int) -> None:
        for _ in range(_CONNECTIONS):
            _, connection = await self._loop.create_connection(lambda: _Connection(self), "127.0.0.1", port)
            self._free.append(connection)

    async def send(self, began: float) -> None:
        load, sent = self._load, 0
        while sent < self._count:
            due = min(int((self._loop.time() - began) * load.per_second) + 1, self._count)
            for number in range(sent, due):
                self._waiting.append((load.requests[number % len(load.requests)], began + number / load.per_second))
            sent = due
            self._give()
            await asyncio.sleep(_AT_ONCE_SECONDS)
        await self._done

    def _give(self) -> None:
        while self._free and self._waiting:
            self._free.pop().begin(*self._waiting.popleft())

    def answered(self, connection: _Connection, due: float, status: bytes) -> None:
        self._last = self._loop.time()
        self._took.append(self._last - due)
        self._failed += status != b"200"
        self._free.append(connection)
        self._give()
        if len(self._took) == self._count:
            self._done.set_result(None)

    def lost(self) -> None:
        if not self._done.done():
            self._done.set_exception(CollectorError("the edge closed a connection while it was measured"))

    def result(self, began: float) -> Paced:
        took = sorted(self._took)
        p50, p99 = (1000 * took[min(len(took) - 1, int(share * len(took)))] for share in (0.5, 0.99))
        return Paced(len(took) / (self._last - began), p50, p99, self._failed)


class _Connection(asyncio.Protocol):
    def __init__(self, sender: _Sender) -> None:
        self._sender = sender
        self._answer = b""
        self._due = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)

    def begin(self, request: bytes, due: float) -> None:
        self._due, self._answer = due, b""
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        answer = self._answer = self._answer + data
        head, ended, body = answer.partition(b"\r\n\r\n")
        if ended and len(body) >= int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0):
            self._sender.answered(self, self._due, answer[9:12])

    def connection_lost(self, error: Exception | None) -> None:
        self._sender.lost()
