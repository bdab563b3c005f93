"""What is measured of PostgreSQL, beside SQLite in the same minutes: clicks, edges, orders, the drain, bytes."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final, Literal, get_args

from msgspec import Struct, structs

from collector.bench import drain, load, matches, people, servers, storing
from collector.bench.children import Child, apart, serving
from collector.bench.load import Figures
from collector.bench.plan import CONNECTIONS, Size, middle
from collector.bench.postgres import cluster, filling
from collector.bench.postgres.cluster import Server
from collector.config import Config, PixelConfig, PrivacyConfig
from collector.core.ids import PublicIds
from collector.errors import CollectorError
from collector.exchange.clock import Clock
from collector.exchange.operations import Submission
from collector.storage import engine

Part = Literal["clicks", "edges", "matching", "drain"]
PARTS: Final[tuple[Part, ...]] = get_args(Part)
EDGES: Final = 3
COURIERS: Final = 3
PIXELS: Final = 6
KINDS: Final = ("proved", "inferred")
_GROUP: Final = 64
_CLICK_TABLES: Final = ("click", "click_network", "sighting")
_ORDER_TABLES: Final = (
    *("conversion", "conversion_identity", "identity_link", "outbox", "outbox_payload", "unproven", "order_name"),
    *("reopened", "unlooked"),
)


class Clicks(Struct, frozen=True):
    """Single clicks, both engines in turn. µs a click: `sqlite_us` and `edge_us` of edge and keeper, `server_us`."""

    stored: int
    rounds: int
    rate: float
    sqlite_rate: float
    edge_us: float
    sqlite_us: float
    ratio: float  # of the two: the median of the rounds
    server_us: float
    log_bytes: float  # a click, of the server's log


class Edges(Struct, frozen=True):
    """One edge with its keeper, and three, on the same processors, in turn: clicks a second of all together."""

    rounds: int
    one: float
    three: float
    ratio: float
    server_us: float


class Orders(Struct, frozen=True):
    """µs an order in groups of 64: of the keeper and of the server; `alone_ms`: one by itself, to its commit (p50)."""

    stored: int
    kind: str
    attributed: int
    orders: int
    keeper_us: float
    server_us: float
    alone_ms: float


class Drained(Struct, frozen=True):
    """Events a second of so many couriers, and µs of server and couriers an event."""

    couriers: int
    events: int
    per_second: float
    courier_us: float
    server_us: float


class Bytes(Struct, frozen=True):
    """On the server's disk, a click or an order: rows, indexes, and its log."""

    what: str
    rows: int
    table: float
    index: float
    log: float


Result = Clicks | Edges | Orders | Drained | Bytes
Say = Callable[[str], None]


def run(parts: Sequence[Part], size: Size, server: Server, home: Path, say: Say) -> Iterator[Result]:
    """Each result as soon as it is known."""
    load.begin_after(size.rows)
    if "clicks" in parts:
        for stored in (size.beside, size.rows):
            yield from _clicks(size, server, home, stored, say)
    if "edges" in parts:
        yield _edges(size, server, home, say)
    if "matching" in parts:
        for stored in (size.few_rows, size.rows):
            yield from _matching(size, server, home, stored, say)
    if "drain" in parts:
        for couriers in (1, COURIERS):
            yield _drain(size, server, home, couriers, say)


def config_over(server: Server, database: str, home: Path, graph: str = "http://127.0.0.1:9") -> Config:
    """As servers.config_for, over a database; its names' key lies in `home`. Several may be over one."""
    home.mkdir(parents=True, exist_ok=True)
    config = servers.config_for(str(home / f"data-{len(list(home.iterdir()))}"), graph)
    storage = server.storage(database, config.storage.data_dir)
    return structs.replace(config, storage=storage, privacy=PrivacyConfig(pepper_file=str(home / "pepper.key")))


def _clicks(size: Size, server: Server, home: Path, stored: int, say: Say) -> Iterator[Result]:
    with cluster.database(server, f"clicks_{stored}") as name:
        config = config_over(server, name, home / name)
        say(f"storing {stored} clicks in PostgreSQL")
        written = server.written()
        say(f"that took {_filled(server, name, config, stored):.0f} s; as many in SQLite")
        filled = (server.written() - written) / stored
        table, index = _bytes(apart(filling.sizes, config), _CLICK_TABLES)
        beside = servers.config_for(str(home / f"sqlite-{stored}"))
        apart(storing.fill, beside, stored)
        with (
            serving(servers.serve, config, engine.journal) as edge,
            serving(servers.serve, beside, engine.journal) as own,
        ):
            apart(servers.await_filter, beside)
            say(f"single clicks, {CONNECTIONS[-1]} connections, {stored} stored, both engines in turn")
            yield _in_turn(size, server, stored, edge, own)
        yield Bytes("click", stored, table / stored, index / stored, filled)


def _filled(server: Server, name: str, config: Config, stored: int) -> float:
    seconds: float = apart(filling.fill, config, stored)
    server.settle(name)
    return seconds


def _in_turn(size: Size, server: Server, stored: int, edge: Child, own: Child) -> Clicks:
    rounds, there, here, spent, written = 2 * size.rounds - 1, [], [], [], []
    load.drive(edge, "click", CONNECTIONS[-1], size.seconds)  # both warm
    load.drive(own, "click", CONNECTIONS[-1], size.seconds)
    for _ in range(rounds):
        seconds, log = server.seconds(), server.written()
        there.append(load.drive(edge, "click", CONNECTIONS[-1], size.seconds))
        clicks = there[-1].rate * size.seconds
        spent.append(1e6 * (server.seconds() - seconds) / clicks)
        written.append((server.written() - log) / clicks)
        here.append(load.drive(own, "click", CONNECTIONS[-1], size.seconds))
    ratio = median(_own_us(a) / _own_us(b) for a, b in zip(there, here, strict=True))
    figures, beside = middle(there), middle(here)
    return Clicks(
        stored, rounds, figures.rate, beside.rate, _own_us(figures), _own_us(beside), ratio, median(spent),
        median(written),
    )  # fmt: skip


def _own_us(figures: Figures) -> float:
    return (figures.loop_us + figures.others_us + figures.keeper_us) or 1.0


def _edges(size: Size, server: Server, home: Path, say: Say) -> Edges:
    with cluster.database(server, "edges") as name, contextlib.ExitStack() as stack:
        started = []
        for _ in range(EDGES):  # one after the other: the first makes the schema
            config = config_over(server, name, home / name)
            started.append(stack.enter_context(serving(servers.serve, config, engine.journal)))
        say(f"single clicks by one edge and by {EDGES}, in turn")
        _together(started, size.seconds)  # warm
        one, three, spent = [], [], []
        for _ in range(2 * size.rounds - 1):
            one.append(_together(started[:1], size.seconds))
            seconds = server.seconds()
            three.append(_together(started, size.seconds))
            spent.append(1e6 * (server.seconds() - seconds) / (three[-1] * size.seconds))
        ratio = median(b / a for a, b in zip(one, three, strict=True))
        return Edges(len(one), median(one), median(three), ratio, median(spent))


def _together(edges: Sequence[Child], seconds: float) -> float:
    """Clicks a second of all, the same number of connections in all."""
    with ThreadPoolExecutor(len(edges)) as pool:
        each = CONNECTIONS[-1] // len(edges)
        reports = list(pool.map(lambda edge: load.wrk(edge.said, "click", each, seconds, 0), edges))
    time.sleep(load.PAUSE_SECONDS)
    return sum(report.requests / report.seconds for report in reports)


def _matching(size: Size, server: Server, home: Path, stored: int, say: Say) -> Iterator[Result]:
    with cluster.database(server, f"matching_{stored}") as name:
        config = config_over(server, name, home / name)
        say(f"storing {stored} clicks in PostgreSQL")
        say(f"that took {_filled(server, name, config, stored):.0f} s; matching orders")
        before, log = apart(filling.sizes, config), server.written()
        results: list[Orders] = apart(judge, config, server, name, stored, size.orders)
        yield from results
        orders = sum(result.orders for result in results) * 2 + len(results) * _alone(size.orders)
        after, log = apart(filling.sizes, config), server.written() - log
        (table, index), (had, had_index) = _bytes(after, _ORDER_TABLES), _bytes(before, _ORDER_TABLES)
        yield Bytes("order", orders, (table - had) / orders, (index - had_index) / orders, log / orders)


def _alone(orders: int) -> int:
    return max(orders // 10, 20)


def judge(config: Config, server: Server, name: str, stored: int, orders: int) -> list[Orders]:
    """Orders of each kind: first some that are not measured, so that no plan was made for empty tables; then in groups,
    and some alone.
    """
    journal = engine.journal(config, Clock())
    journal.start()
    made = _Made(journal, stored)
    try:
        results = []
        for kind in KINDS:
            _commit(journal, made(kind, orders), _GROUP)
        server.settle(name)
        for kind in KINDS:
            told = made(kind, orders)
            seconds, own = server.seconds(), time.process_time()
            found = _commit(journal, told, _GROUP)
            own, seconds = time.process_time() - own, server.seconds() - seconds
            alone = [_ms(journal, one) for one in made(kind, _alone(orders))]
            attributed = sum(result.state.match.attributed for result in found)
            figures = 1e6 * own / orders, 1e6 * seconds / orders, quantiles(alone, n=100)[49]
            results.append(Orders(stored, kind, attributed, orders, *figures))
        return results
    finally:
        journal.close()


class _Made:
    """Orders by visitors of the last days, each another one."""

    def __init__(self, journal: engine.Journal, stored: int) -> None:
        self._names, self._store = journal.names, journal.stores[people.STORE]
        self._public = PublicIds(self._names.subkey("public ids"))
        self._stored, self._number = stored, 0

    def __call__(self, kind: str, count: int) -> list[Any]:
        found, recent = [], max(1, self._stored // 14)
        for _ in range(count):
            self._number += 1
            by = max(1, self._stored - self._number * 7919 % recent)
            body = people.order(self._number, by, kind)
            found.append(matches.order_of(body, self._names, self._public, self._store))
        return found


def _commit(journal: engine.Journal, orders: Sequence[Any], group: int) -> list[Any]:
    results: list[Any] = []
    for first in range(0, len(orders), group):
        (answered,) = journal.commit(deque([Submission(orders[first : first + group])]))
        if isinstance(answered.results, Exception):
            raise answered.results
        results += answered.results
        journal.rest()
    return results


def _ms(journal: engine.Journal, order: Any) -> float:
    waiting = deque([Submission([order])])
    began = time.perf_counter()
    journal.commit(waiting)
    spent = 1000 * (time.perf_counter() - began)
    journal.rest()
    return spent


def _drain(size: Size, server: Server, home: Path, couriers: int, say: Say) -> Drained:
    with cluster.database(server, f"drain_{couriers}") as name:

        def config(url: str) -> Config:
            made = config_over(server, name, home / name, url)
            first = made.store[0]
            pixels = [
                PixelConfig(id=f"{number}11", access_token=first.pixel[0].access_token)
                for number in range(1, PIXELS + 1)
            ]
            return structs.replace(made, store=[structs.replace(first, pixel=pixels)])

        say(f"queueing {size.backlog} events of {PIXELS} pixels")
        apart(filling.queue, config("http://127.0.0.1:9"), size.backlog)
        server.settle(name)
        say(f"draining them, {couriers} at once")
        seconds = server.seconds()
        done = drain.measure(lambda url: [config(url) for _ in range(couriers)], size.backlog)
        seconds = server.seconds() - seconds
        if left := apart(filling.unsettled, config("http://127.0.0.1:9")):
            raise CollectorError(f"{left} events were not settled")
        return Drained(
            couriers, done.backlog, done.settled_per_second, done.cpu_us_per_event, 1e6 * seconds / done.backlog
        )


def _bytes(sizes: dict[str, tuple[int, int]], tables: Sequence[str]) -> tuple[int, int]:
    found = [sizes.get(table, (0, 0)) for table in tables]
    return sum(table for table, _ in found), sum(index for _, index in found)
