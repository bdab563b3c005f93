"""How fast does the courier empty its queue into a Graph that agrees at once, and how much memory does it take."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import re
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import uvloop
from msgspec import Struct

from collector import telemetry
from collector.bench import payloads
from collector.bench.children import Child, cpu_seconds, resident_mb, serving
from collector.bench.storing import now_ms
from collector.config import Config
from collector.core.capi.payload import Profile, build_event
from collector.core.events import Enrichment
from collector.courier import app
from collector.errors import CollectorError
from collector.storage.ground import stores
from collector.storage.ground.database import open_database
from collector.storage.outbox import outbox
from collector.storage.rules import deliveries

_CHUNK: Final = 5_000
_LENGTH: Final = re.compile(rb"(?i)\r\ncontent-length: (\d+)")
_EVENT: Final = b'{"event_name":'
_STALLED_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 0.01


class Drained(Struct, frozen=True):
    """`settled_per_second`: taken by the Graph and settled on disk. Memory is the courier's, in MB, at the most."""

    backlog: int
    settled_per_second: float
    memory_at_start: float
    memory_most: float
    cpu_us_per_event: float


def queue(config: Config, events: int) -> None:
    """Put so many built orders of different people into the outbox, due at once."""
    now = now_ms()
    who = payloads.buyer(1)
    built = build_event(payloads.event_of(who, payloads.hashed(who), now), Enrichment(), Profile())
    with contextlib.closing(open_database(config.storage)) as db:
        db.pragma("synchronous", "OFF")
        pixel = stores.pixel_number(db, "111")
        for first in range(1, events + 1, _CHUNK):
            rows = [
                deliveries.row_of(n, pixel, "Purchase", built, now=now - 60_000, wait_seconds=0.0)
                for n in range(first, min(first + _CHUNK, events + 1))
            ]
            db.execute("BEGIN IMMEDIATE")
            outbox.insert(db, rows)
            db.execute("COMMIT")


def measure(configs_at: Callable[[str], Sequence[Config]], events: int) -> Drained:
    """Run couriers, one for each configuration, over the queue that `queue` made, until nothing is open."""
    forked = multiprocessing.get_context("fork")
    taken, begun = forked.Value("q", 0), forked.Value("b", 0)
    with serving(_graph, taken, begun) as graph, contextlib.ExitStack() as stack:
        configs = configs_at(f"http://127.0.0.1:{graph.said}")
        couriers = [stack.enter_context(serving(_courier, config)) for config in configs]
        began, start, most = time.monotonic(), _memory(couriers), 0.0
        moved, seen = began, 0
        begun.value = 1
        while taken.value < events:
            time.sleep(0.05)
            most = max(most, _memory(couriers))
            if taken.value > seen:
                moved, seen = time.monotonic(), taken.value
            if time.monotonic() - moved > _STALLED_SECONDS:
                raise CollectorError(f"the courier stopped after {seen} of {events} events")
        seconds = time.monotonic() - began
        spent = sum(sum(cpu_seconds(courier.pid)) for courier in couriers)
    return Drained(events, events / seconds, start, most, 1e6 * spent / events)


def _memory(couriers: Sequence[Child]) -> float:
    return max(resident_mb(courier.pid) for courier in couriers)


def unsettled(config: Config) -> int:
    """Events that are still in the queue."""
    with contextlib.closing(open_database(config.storage)) as db:
        return int(db.execute("SELECT count(*) FROM outbox WHERE settled IS NULL").get)


def _courier(ready: Callable[[None], None], config: Config) -> None:
    telemetry.configure(config.log, "courier")
    app.run(config, lambda: ready(None))


def _graph(ready: Callable[[int], None], taken: Any, begun: Any) -> None:
    uvloop.run(_agree(ready, taken, begun))


async def _agree(ready: Callable[[int], None], taken: Any, begun: Any) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: _Graph(taken, begun), "127.0.0.1", 0)
    ready(server.sockets[0].getsockname()[1])
    await server.serve_forever()


class _Graph(asyncio.Protocol):
    """Takes every batch, counts its events and says how many they were; judges nothing. Waits until all are there."""

    def __init__(self, taken: Any, begun: Any) -> None:
        self._taken, self._begun = taken, begun
        self._buffer = bytearray()
        self._needed = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._needed:
            head, found, _ = self._buffer.partition(b"\r\n\r\n")
            if not found:
                return
            length = _LENGTH.search(head)
            self._needed = len(head) + 4 + (int(length[1]) if length else 0)
        if len(self._buffer) >= self._needed:
            self._answer(bytes(self._buffer[: self._needed]).count(_EVENT))
            self._buffer, self._needed = bytearray(), 0

    def _answer(self, events: int) -> None:
        if not self._begun.value:
            asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._answer, events)
            return
        body = b'{"events_received":%d,"messages":[],"fbtrace_id":"AbCdEfGh"}' % events
        self._transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        with self._taken.get_lock():
            self._taken.value += events
