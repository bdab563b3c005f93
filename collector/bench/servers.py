"""The edge under test, and the same edge over a journal that acknowledges at once and stores nothing."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
import uvloop
from msgspec import Struct

from collector.bench import people
from collector.bench.payloads import NO_TOKEN
from collector.bench.storing import now_ms
from collector.config import Config, EdgeConfig, MetaConfig, PixelConfig, StorageConfig, StoreConfig
from collector.edge import app
from collector.errors import CollectorError
from collector.process.program import own_command
from collector.storage import keys
from collector.storage.clicks import ClickResult, NewClick
from collector.storage.clock import Clock
from collector.storage.database import open_database
from collector.storage.journal import Journal
from collector.storage.transaction import Operation

_LEARNING_SECONDS: Final = 300.0


class Address(Struct, frozen=True):
    """Where an edge is, and a secret key for it."""

    port: int
    key: str


def config_for(data_dir: str, graph_url: str = "http://127.0.0.1:9") -> Config:
    """One store with a pixel, so that orders are queued; nothing delivers them. A rate that no load reaches."""
    return Config(
        edge=EdgeConfig(listen="127.0.0.1:0", rate_limit_key_per_second=1_000_000_000),
        storage=StorageConfig(data_dir=data_dir),
        meta=MetaConfig(mode="live", graph_url=graph_url),
        store=[
            StoreConfig(
                id=people.STORE,
                domains=["shop.example"],
                currency="USD",
                country="US",
                pixel=[PixelConfig(id="111", access_token=NO_TOKEN)],
            )
        ],
    )


class Acknowledging(Journal):
    """Answers every click as if it were on disk: the price of HTTP, decoding and checks alone."""

    def submit(self, operations: Sequence[Operation]) -> asyncio.Future[list[Any]]:
        future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        future.set_result([_made_up(operation) for operation in operations])
        return future


def _made_up(operation: Operation) -> ClickResult:
    assert isinstance(operation, NewClick), "only clicks can be answered without storing"
    return ClickResult(abs(operation.row[4]), operation.row[1], False)


def serve(ready: Callable[[Address], None], config: Config, journal: type[Journal]) -> None:
    """Run an edge until SIGTERM."""
    with contextlib.closing(open_database(config.storage)) as db:
        key = keys.create(db, store=people.STORE, kind="secret", now=now_ms()).key
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 0))
    address = Address(listener.getsockname()[1], key)
    uvloop.run(_serve(config, journal, listener, lambda: ready(address)))


def await_filter(config: Config) -> None:
    """Return once the edge's duplicate filter knows every stored click, as its sign of life says."""
    with contextlib.closing(open_database(config.storage)) as db:
        until = time.monotonic() + _LEARNING_SECONDS
        while time.monotonic() < until:
            life = db.execute("SELECT body FROM heartbeat WHERE process = 'edge'").get
            if isinstance(life, bytes) and msgspec.json.decode(life)["filtered"]:
                return
            time.sleep(0.2)
    raise CollectorError("the edge did not learn its clicks")


async def _serve(config: Config, journal: type[Journal], listener: socket.socket, ready: Callable[[], None]) -> None:
    await app.serve(config, journal(config, Clock()), listener, ready, own_command("helper"))
