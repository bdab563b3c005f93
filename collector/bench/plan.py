"""What is measured, in which order, how often; what is compared runs in turn, so that a noisy minute hits both."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Final, Literal, get_args

from msgspec import Struct

from collector.bench import appends, drain, load, matches, payloads, servers, starts, storing, webhooks
from collector.bench.children import Child, apart, serving
from collector.bench.load import Figures, Kind
from collector.config import Config
from collector.errors import CollectorError
from collector.storage.journal.journal import Journal

CONNECTIONS: Final = (1, 16, 64)
BATCHES: Final = 4  # connections that post batches: one each for the generator, the loop, the keeper and the disk
ORDERS: Final = 16  # connections that post orders
Part = Literal["clicks", "batch", "orders", "webhooks", "ingest", "matching", "payloads", "drain", "start"]
PARTS: Final[tuple[Part, ...]] = get_args(Part)


class Size(Struct, frozen=True):
    """How much of everything."""

    rounds: int = 3
    seconds: float = 4.0
    rows: int = 1_000_000
    few_rows: int = 10_000
    beside: int = 100_000  # clicks stored in the edge that ingest with `rows` of them is held against
    orders: int = 2_000
    backlog: int = 1_000_000
    starts: int = 5


QUICK: Final = Size(
    rounds=1, seconds=1.0, rows=20_000, few_rows=1_000, beside=2_000, orders=100, backlog=5_000, starts=1
)  # a smoke test: its figures mean little


class Clicks(Struct, frozen=True):
    """Single clicks at so many connections: on disk, the same edge without storing, and SQLite's own appends."""

    connections: int
    stored: int
    durable: Figures
    unstored: Figures
    appends_per_second: float

    @property
    def ratio(self) -> float:
        return self.durable.rate / self.unstored.rate


class Batch(Struct, frozen=True):
    kind: Kind
    stored: int
    durable: Figures
    unstored: Figures | None


class Orders(Struct, frozen=True):
    """Orders over HTTP, each matched and queued for Meta before its answer."""

    connections: int
    stored: int
    durable: Figures


class Ingest(Struct, frozen=True):
    """Clicks, single or in batches, taken by an edge with few stored and by one with many, in turn; medians."""

    kind: Kind
    connections: int
    few: int
    stored: int
    rounds: int
    few_figures: Figures
    figures: Figures
    ratio: float  # of the rates, the median over rounds: the two halves of a round see the same minute


Result = (
    Clicks
    | Ingest
    | Batch
    | Orders
    | webhooks.Hooked
    | matches.Matching
    | payloads.Building
    | drain.Drained
    | starts.Start
)
Say = Callable[[str], None]


def run(parts: tuple[Part, ...], size: Size, say: Say) -> Iterator[Result]:
    """Each result as soon as it is known. `say` takes a line on what is under way."""
    with tempfile.TemporaryDirectory(prefix="collector-bench-") as folder:
        home = Path(folder)
        load.begin_after(size.rows)
        if {"clicks", "batch", "orders"} & set(parts):
            yield from _over_http(parts, size, home, say)
        if "webhooks" in parts:
            yield _webhooks(size, home, say)
        if "ingest" in parts:
            yield from _ingest(size, home, say)
        if "matching" in parts:
            yield from _matching(size, home, say)
        if "payloads" in parts:
            say("building payloads")
            yield apart(payloads.measure, 2 * size.rounds + 1)
        if "drain" in parts:
            yield _drain(size, home, say)
        if "start" in parts:
            for program in starts.programs():
                say(f"starting {program[0]}")
                yield starts.measure(program, size.starts)


def _over_http(parts: tuple[Part, ...], size: Size, home: Path, say: Say) -> Iterator[Result]:
    for stored in (0, size.rows):
        config = servers.config_for(str(home / f"http-{stored}"))
        bare = servers.config_for(str(home / f"bare-{stored}"))
        idle = servers.config_for(str(home / f"idle-{stored}"))
        if stored:
            say(f"storing {stored} clicks")
            apart(storing.fill, config, stored)
        with (
            serving(servers.serve, config, Journal) as edge,
            serving(servers.serve, idle, servers.Acknowledging) as other,
        ):
            if "clicks" in parts:
                for connections in CONNECTIONS:
                    say(f"single clicks, {connections} connections, {stored} stored")
                    yield _clicks(size, connections, stored, edge, other, bare)
            if "batch" in parts:
                kinds: tuple[Kind, ...] = (
                    ("batch", "mixed") if stored else ("batch",)
                )  # orders need clicks to come from
                for kind in kinds:
                    say(f"batches ({kind}), {stored} stored")
                    yield _batch(size, kind, stored, edge, other)
            if "orders" in parts and stored:
                say(f"orders, {stored} stored")
                runs = [load.drive(edge, "order", ORDERS, size.seconds, stored) for _ in range(size.rounds)]
                yield Orders(ORDERS, stored, middle(runs))


def _clicks(size: Size, connections: int, stored: int, edge: Child, other: Child, bare: Config) -> Clicks:
    durable, unstored, alone = [], [], []
    for _ in range(size.rounds):
        durable.append(load.drive(edge, "click", connections, size.seconds))
        unstored.append(load.drive(other, "click", connections, size.seconds))
        alone.append(apart(appends.per_second, bare, connections, size.seconds / 2))
    return Clicks(connections, stored, middle(durable), middle(unstored), median(alone))


def _batch(size: Size, kind: Kind, stored: int, edge: Child, other: Child) -> Batch:
    durable, unstored = [], []
    for _ in range(size.rounds):
        durable.append(load.drive(edge, kind, BATCHES, size.seconds, stored))
        if kind == "batch":
            unstored.append(load.drive(other, kind, BATCHES, size.seconds))
    return Batch(kind, stored, middle(durable), middle(unstored) if unstored else None)


def _ingest(size: Size, home: Path, say: Say) -> Iterator[Result]:
    configs = []
    for place, stored in (("few", size.beside), ("many", size.rows)):
        configs.append(servers.config_for(str(home / f"ingest-{place}")))
        say(f"storing {stored} clicks")
        seconds = apart(storing.fill, configs[-1], stored)
    say(f"that took {seconds:.0f} s")
    with (
        serving(servers.serve, configs[0], Journal) as few,
        serving(servers.serve, configs[1], Journal) as many,
    ):
        for config in configs:
            apart(servers.await_filter, config)
        for kind, connections in (("click", CONNECTIONS[-1]), ("batch", BATCHES)):
            say(f"{kind}, {connections} connections, {size.beside} stored beside {size.rows}")
            yield _beside(size, kind, connections, few, many)  # type: ignore[arg-type]  # mypy widens the literals


def _beside(size: Size, kind: Kind, connections: int, few: Child, many: Child) -> Ingest:
    rounds = 2 * size.rounds - 1
    seconds, pairs = size.seconds, []
    load.drive(few, kind, connections, seconds)  # both warm
    load.drive(many, kind, connections, seconds)
    for turn in range(rounds):
        edges = (few, many) if turn % 2 else (many, few)  # neither always has the other's checkpoint behind it
        figures = {edge.pid: load.drive(edge, kind, connections, seconds) for edge in edges}
        pairs.append((figures[few.pid], figures[many.pid]))
    ratio = median(b.rate / a.rate for a, b in pairs)
    of_few, of_many = (middle([pair[i] for pair in pairs]) for i in (0, 1))
    return Ingest(kind, connections, size.beside, size.rows, rounds, of_few, of_many, ratio)


def _webhooks(size: Size, home: Path, say: Say) -> webhooks.Hooked:
    config = servers.config_for(str(home / "webhooks"))
    with serving(servers.serve, config, Journal) as edge:
        say(f"{webhooks.PER_SECOND} webhooks a second, clicks alone and beside them")
        return webhooks.measure(edge, size.rounds, size.seconds)


def _matching(size: Size, home: Path, say: Say) -> Iterator[Result]:
    for place, stored in (("few", size.few_rows), ("many", size.rows)):
        config = servers.config_for(str(home / f"matching-{place}"))
        say(f"storing {stored} clicks")
        seconds = apart(storing.fill, config, stored)
        say(f"that took {seconds:.0f} s; matching orders")
        yield apart(matches.measure, config, stored, size.orders)


def _drain(size: Size, home: Path, say: Say) -> drain.Drained:
    folder = str(home / "drain")
    say(f"queueing {size.backlog} events")
    apart(drain.queue, servers.config_for(folder), size.backlog)
    say("draining them")
    result = drain.measure(lambda url: [servers.config_for(folder, url)], size.backlog)
    if left := apart(drain.unsettled, servers.config_for(folder)):
        raise CollectorError(f"{left} events were not settled")
    return result


def middle(runs: list[Figures]) -> Figures:
    """The run of the median rate."""
    return sorted(runs, key=lambda figures: figures.rate)[len(runs) // 2]
