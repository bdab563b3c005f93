"""One outbox on either engine: what the contract tests put in, and the courier's side that they ask."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any, Protocol

import msgspec

from collector.config import Config
from collector.core.capi.payload import Profile, build_event
from collector.core.capi.states import NAMES
from collector.core.events import Enrichment
from collector.storage import delivery
from collector.storage.ground import stores
from collector.storage.outbox import outbox
from collector.storage.outbox.dispatch import Outbox as SqliteOutbox
from collector.storage.outbox.upkeep import Upkeep as SqliteUpkeep
from collector.storage.postgres import ids, partitions
from collector.storage.postgres.outbox import PostgresOutbox
from collector.storage.postgres.threaded import Threaded
from collector.storage.postgres.upkeep import PostgresUpkeep
from collector.storage.rules import deliveries
from collector.storage.rules.deliveries import OutboxRow
from tests.kit.courier_kit import Bench, an_event, bench, config_for, now_ms
from tests.kit.postgres import Database

_OF_EDGES = ("counter",)


class Engine(Protocol):
    """An installation with two pixels, 111 and 222, and one courier's side of it."""

    config: Config
    box: delivery.Outbox
    upkeep: delivery.Upkeep
    no_bytes: str  # as a literal

    def insert(self, pixel: str, rows: Sequence[OutboxRow]) -> None: ...
    def rows(self, sql: str) -> list[Any]: ...
    def execute(self, sql: str) -> None: ...
    def pixel(self, name: str = "111") -> int: ...
    def add(self, table: str, **row: Any) -> None: ...
    def number(self, n: int, at: int) -> int: ...
    def successor(self, now: int) -> delivery.Outbox: ...


class Sqlite:
    no_bytes = "X''"

    def __init__(self, bench: Bench) -> None:
        self.config, self._db = bench.config, bench.db
        self.box: delivery.Outbox = SqliteOutbox(bench.db, "test")
        self.upkeep: delivery.Upkeep = SqliteUpkeep(bench.db)

    def insert(self, pixel: str, rows: Sequence[OutboxRow]) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        outbox.insert(self._db, rows)
        self._db.execute("COMMIT")

    def rows(self, sql: str) -> list[Any]:
        return self._db.execute(sql).fetchall()

    def execute(self, sql: str) -> None:
        self._db.execute(sql)

    def pixel(self, name: str = "111") -> int:
        return stores.pixel_number(self._db, name)

    def add(self, table: str, **row: Any) -> None:
        """A row as it is; `store` is 1 where there is such a column."""
        if table in ("click", "conversion", "identity_link"):
            row["store"] = 1
        names = ", ".join(row)
        self._db.execute(f"INSERT INTO {table} ({names}) VALUES ({', '.join(':' + n for n in row)})", row)

    def number(self, n: int, at: int) -> int:
        """The id of a click or order that came at this moment (ms), the nth."""
        return n

    def successor(self, now: int) -> delivery.Outbox:
        """Another courier's side, after this one has died."""
        successor = SqliteOutbox(self._db, "next")
        successor.take_over(now)
        return successor


class Postgres:
    """Couriers' sides over one database."""

    no_bytes = "''::bytea"

    def __init__(self, config: Config, stack: ExitStack) -> None:
        self.config = config
        self._threaded = Threaded(config.storage, "test")
        stack.callback(self._threaded.close)
        self._box = lambda owner: PostgresOutbox(self._threaded, owner)
        for name in ("111", "222"):
            self.execute(f"INSERT INTO pixel (name) VALUES ('{name}')")
        self.execute("INSERT INTO store (name) VALUES ('store_a')")
        self.box: delivery.Outbox = self._box("test")
        self.box.lease(now_ms())
        self.upkeep: delivery.Upkeep = PostgresUpkeep(self._threaded)
        self._ids = itertools.count(1)

    def insert(self, pixel: str, rows: Sequence[OutboxRow]) -> None:
        numbered = [(next(self._ids), row) for row in rows]
        values = [(n, 1, *deliveries.values_of(n, row)[1:]) for n, row in numbered]
        bodies = [(n, 1, row.payload) for n, row in numbered if row.payload]

        async def write(c: Any) -> None:
            await c.executemany(f"INSERT INTO outbox VALUES ({', '.join(f'${i}' for i in range(1, 17))})", values)
            await c.executemany("INSERT INTO outbox_payload VALUES ($1, $2, $3)", bodies)

        self._threaded.ask(write)

    def rows(self, sql: str) -> list[Any]:
        return [tuple(row) for row in self._threaded.ask(lambda c: c.fetch(sql))]

    def execute(self, sql: str) -> None:
        self._threaded.ask(lambda c: c.execute(sql))

    def pixel(self, name: str = "111") -> int:
        return int(self.rows(f"SELECT id FROM pixel WHERE name = '{name}'")[0][0])

    def add(self, table: str, **row: Any) -> None:
        if table in _OF_EDGES:
            row["edge"] = 7
        elif table not in ("idempotency", "request"):
            row["store"] = 1
        if table == "request":
            row["epoch"] = 1
        places = ", ".join(f"${i}" for i in range(1, len(row) + 1))
        over = "OVERRIDING SYSTEM VALUE" if table == "request" else ""

        async def write(c: Any) -> None:
            if table in partitions.TABLES and row["id"] >= ids.SQLITE:
                await partitions.ahead(c, ids.ms_of(row["id"]))
            await c.execute(f"INSERT INTO {table} ({', '.join(row)}) {over} VALUES ({places})", *row.values())

        self._threaded.ask(write)

    def number(self, n: int, at: int) -> int:
        return ids.first_of(at) + n

    def courier(self, owner: str) -> delivery.Outbox:
        """Another courier's side."""
        return self._box(owner)

    @contextmanager
    def changing(self, sql: str) -> Iterator[None]:
        """A transaction of somebody else that has done this, and commits at the end."""
        began, ended = Event(), Event()

        async def work(c: Any) -> None:
            await c.execute(sql)
            began.set()
            while not ended.is_set():
                await asyncio.sleep(0.01)

        thread = Thread(target=lambda: self._threaded.ask(work))
        thread.start()
        try:
            assert began.wait(60)
            yield
        finally:
            ended.set()
            thread.join()

    def successor(self, now: int) -> delivery.Outbox:
        self.execute("UPDATE pixel_lease SET until = 0")
        self.execute("DELETE FROM courier")
        successor = self.courier("next")
        successor.lease(now)
        return successor


@contextmanager
def sqlite(folder: Path) -> Iterator[Engine]:
    with bench(config_for(folder / "data", "http://127.0.0.1:1", "111", "222")) as made:
        for name in ("111", "222"):
            stores.pixel_number(made.db, name)
        yield Sqlite(made)


@contextmanager
def postgres(folder: Path, database: Database) -> Iterator[Engine]:
    with ExitStack() as stack:
        yield Postgres(postgres_config(folder, database), stack)


def postgres_config(folder: Path, database: Database, graph: str = "http://127.0.0.1:1", **meta: Any) -> Config:
    config = config_for(folder / "data", graph, "111", "222", **meta)
    storage = msgspec.structs.replace(config.storage, engine="postgres", dsn=database.dsn, standby="none")
    return msgspec.structs.replace(config, storage=storage)


def put(
    engine: Engine,
    count: int = 1,
    *,
    first: int = 1,
    pixel: str = "111",
    name: str = "Purchase",
    created: int | None = None,
    **more: Any,
) -> None:
    """Queue events of conversions numbered from `first`, as the keeper does."""
    now = created if created is not None else now_ms()
    rows = []
    for n in range(first, first + count):
        built = build_event(an_event(n, name=name, at=created, **more), Enrichment(), Profile())
        assert built.refused is None, built.refused
        rows.append(deliveries.row_of(n, engine.pixel(pixel), name, built, now=now, wait_seconds=0.1))
    engine.insert(pixel, rows)


def states(engine: Engine) -> Counter[str]:
    """How many events are in each state."""
    return Counter({NAMES[int(s)]: int(n) for s, n in engine.rows("SELECT state, count(*) FROM outbox GROUP BY state")})
