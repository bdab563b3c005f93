"""The edge under test, and the same edge over a journal that acknowledges at once and stores nothing."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NoReturn

import msgspec
import uvloop
from msgspec import Struct

from collector.bench import people
from collector.bench.payloads import NO_TOKEN
from collector.bench.storing import now_ms
from collector.config import Config, EdgeConfig, MetaConfig, PixelConfig, StorageConfig, StoreConfig
from collector.edge import app
from collector.errors import CollectorError
from collector.exchange import links
from collector.exchange.clicks import ClickResult, NewClick
from collector.exchange.clock import Clock
from collector.exchange.operations import Operation, Submission
from collector.keeper import app as keeper
from collector.process import hardening, listening
from collector.storage import engine
from collector.storage.ground.database import open_database
from collector.storage.journal.journal import Journal

SHOP_SECRET: Final = "bench"
Opening = Callable[[Config, Clock], engine.Journal]
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
                webhook_secrets={"shopify": SHOP_SECRET},
                pixel=[PixelConfig(id="111", access_token=NO_TOKEN)],
            )
        ],
    )


class Acknowledging(Journal):
    """Answers every click as if it were on disk: the price of HTTP, decoding and checks alone."""

    def commit(self, waiting: deque[Submission]) -> Sequence[Submission]:
        """Take all, and store nothing."""
        group = list(waiting)
        waiting.clear()
        for submission in group:
            submission.results = [_made_up(operation) for operation in submission.operations]
        return group


def _made_up(operation: Operation) -> ClickResult:
    assert isinstance(operation, NewClick), "only clicks can be answered without storing"
    return ClickResult(abs(operation.row[4]), operation.row[1], False)


def serve(ready: Callable[[Address], None], config: Config, journal: Opening) -> None:
    """Run an edge, and a keeper below it, until SIGTERM."""
    with engine.keys(config, makes=True) as known:
        key = known.create(people.STORE, "secret", now_ms()).key
    listener = listening.bind("127.0.0.1:0")
    address = Address(listener.getsockname()[1], key)
    kept, control = links.control()
    given, end = links.pair()
    links.give(kept, given)
    if os.fork() == 0:
        _keep(config, journal, end)
    end.close()
    control.setblocking(False)
    uvloop.run(app.serve(config, listener, lambda: ready(address), control))


def _keep(config: Config, journal: Opening, end: socket.socket) -> NoReturn:
    hardening.die_with_parent()
    kept, control = links.control()
    links.give(kept, end)
    try:
        keeper.run(config, control, lambda: None, journal)
    finally:
        os._exit(0)


def await_filter(config: Config) -> None:
    """Return once the keeper's duplicate filter knows every stored click, as its sign of life says."""
    with contextlib.closing(open_database(config.storage)) as db:
        until = time.monotonic() + _LEARNING_SECONDS
        while time.monotonic() < until:
            life = db.execute("SELECT body FROM heartbeat WHERE process = 'keeper'").get
            if isinstance(life, bytes) and msgspec.json.decode(life)["filtered"]:
                return
            time.sleep(0.2)
    raise CollectorError("the keeper did not learn its clicks")
