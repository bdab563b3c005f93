"""Another release's program beside this one, in turn in the same minutes: what is "no slower" than which?

Both are black boxes: each is started as a merchant starts it, over data of its own, and asked by HTTP alone.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Final

import msgspec
from msgspec import Struct

from collector.bench import load, people
from collector.bench.children import tree_mb, tree_seconds
from collector.bench.load import Kind
from collector.bench.payloads import NO_TOKEN
from collector.bench.servers import Address
from collector.errors import CollectorError, ConfigError
from collector.process.unpacked import foreign_environment

CASES: Final[tuple[tuple[Kind, int], ...]] = (
    ("click", 1),
    ("click", 16),
    ("click", 64),
    ("click", 256),
    ("batch", 4),
    ("mixed", 4),
    ("order", 16),
)  # what is posted, and over how many connections
_READY: Final = re.compile(r"^ready edge=http://127\.0\.0\.1:(\d+)")
_END_SECONDS: Final = 30.0
_CONFIGURATION: Final = f"""
[edge]
listen = "127.0.0.1:0"
rate_limit_key_per_second = 1000000000
[console]
listen = "127.0.0.1:0"
[storage]
data_dir = "data"
[meta]
mode = "dry_run"
[[store]]
id = "{people.STORE}"
domains = ["shop.example"]
currency = "USD"
country = "US"
[[store.pixel]]
id = "1234567890123456"
access_token = "{NO_TOKEN}"
"""


class Program(Struct, frozen=True):
    """A release: its command, the folder of its source where it is not installed, and what it says of itself."""

    command: tuple[str, ...]
    source: str | None
    version: str

    def environment(self) -> dict[str, str]:
        """Ours, without what a one-file program adds to it; with the source where there is one."""
        given = {name: value for name, value in foreign_environment().items() if not name.startswith("COLLECTOR_")}
        return given | ({"PYTHONPATH": self.source} if self.source else {})


class Turn(Struct, frozen=True):
    """One run of one program: events/s, milliseconds, microseconds of processor per event in all its processes.

    `client_us`: likewise of the load generator, which shares the processors: where both together take all there is, the
    rate says more of it than of the program, and the processor's time is the honest figure.
    """

    rate: float
    p50_ms: float
    p99_ms: float
    processor_us: float
    client_us: float
    failed: int


class Comparison(Struct, frozen=True):
    """One case, both programs in turn. Ratios are this one's to the other's, round by round: median, least and most."""

    kind: Kind
    connections: int
    stored: int
    rounds: int
    own: Turn
    other: Turn
    rates: tuple[float, float, float]
    processor: tuple[float, float, float]


class Resting(Struct, frozen=True):
    """Megabytes of each program with nothing to do, all its processes, a shared page counted once (PSS)."""

    own_mb: float
    other_mb: float


class _Running(Struct, frozen=True):
    pid: int
    address: Address


def programs(path: str) -> tuple[Program, Program]:
    """This program and the one at `path`: a binary, a `collector` command, or the folder of a release's source.

    Raises ConfigError where there is none, or where it does not say its version.
    """
    python = None if getattr(sys, "frozen", False) else sys.executable
    here = Path(__file__).resolve().parents[2]
    own = _program((python, "-m", "collector"), str(here)) if python else _program((sys.executable,), None)
    place = Path(path).resolve()
    if place.is_file() and os.access(place, os.X_OK):
        return own, _program((str(place),), None)
    if (place / "collector" / "__main__.py").is_file():
        return own, _program((python or "python3", "-m", "collector"), str(place))
    raise ConfigError(
        [f"--against: '{path}' is neither a program that may be run nor a folder with a release's source"]
    )


def _program(command: tuple[str, ...], source: str | None) -> Program:
    program = Program(command, source, "")
    asked = subprocess.run(
        [*command, "version", "--json"], env=program.environment(), cwd="/", capture_output=True, text=True, check=False
    )
    try:
        said = msgspec.json.decode(asked.stdout, type=dict[str, str | None])
    except msgspec.DecodeError:
        what = (asked.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise ConfigError([f"--against: `{' '.join(command)} version --json` of {source or 'it'}: {what}"]) from None
    revision = said.get("revision")
    return Program(command, source, f"{said['version']}{f' of {revision[:7]}' if revision else ''}")


def run(
    pair: tuple[Program, Program], rows: int, rounds: int, seconds: float, home: Path, say: Callable[[str], None]
) -> Iterator[Comparison | Resting]:
    """Each case as soon as it is known, with `rows` clicks stored in both.

    Raises CollectorError where a program does not start or wrk fails.
    """
    load.begin_after(rows)
    with _started(pair[0], home / "own") as own, _started(pair[1], home / "other") as other:
        time.sleep(seconds)
        yield Resting(tree_mb(own.pid), tree_mb(other.pid))
        for one, name in ((own, "this program"), (other, "the other")):
            say(f"storing {rows} clicks in {name}, over HTTP")
            _fill(one.address, rows)
        for kind, connections in CASES:
            say(f"{kind}, {connections} connections, in turn")
            yield _compare(kind, connections, rows, rounds, seconds, own, other)


@contextlib.contextmanager
def _started(program: Program, folder: Path) -> Iterator[_Running]:
    folder.mkdir()
    config = folder / "config.toml"
    config.write_text(_CONFIGURATION)
    create = ("keys", "create", "--store", people.STORE, "--kind", "secret", "--json")
    said = subprocess.run(
        [*program.command, *create, "--config", str(config)],
        env=program.environment(),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )  # before it serves, while nobody else writes
    if said.returncode:
        raise CollectorError(f"{program.version}: `keys create` failed: {said.stderr.strip()}")
    key = msgspec.json.decode(said.stdout)["key"]
    log = folder / "log"
    with log.open("w") as err:
        child = subprocess.Popen(
            [*program.command, "serve", "--config", str(config)],
            env=program.environment(),
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=err,
        )
    try:
        yield _Running(child.pid, Address(_port(child, log), key))
    finally:
        child.terminate()
        try:
            child.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _port(child: subprocess.Popen[bytes], log: Path) -> int:
    while child.poll() is None:
        for line in log.read_text().splitlines():
            if found := _READY.match(line):
                return int(found[1])
        time.sleep(0.05)
    raise CollectorError(f"`serve` ended before it was ready: {log.read_text().strip()[-500:]}")


def _fill(address: Address, rows: int) -> None:
    """Post clicks 1 to `rows` in batches. Raises CollectorError where one is refused."""
    encoder = msgspec.json.Encoder()
    headers = {"Authorization": f"Bearer {address.key}", "Content-Type": "application/json"}
    connection = http.client.HTTPConnection("127.0.0.1", address.port, timeout=60)
    with contextlib.closing(connection):
        for first in range(1, rows + 1, load.ITEMS):
            numbers = range(first, min(first + load.ITEMS, rows + 1))
            body = encoder.encode([{"type": "click"} | people.click(n) for n in numbers])
            connection.request("POST", "/v1/track/batch", body, headers)
            answer = connection.getresponse()
            text = answer.read()
            if answer.status != 200:
                raise CollectorError(f"a batch of clicks was answered {answer.status}: {text[:200]!r}")


def _compare(
    kind: Kind, connections: int, stored: int, rounds: int, seconds: float, own: _Running, other: _Running
) -> Comparison:
    for one in (own, other):  # warm
        _turn(one, kind, connections, seconds / 2, stored)
    pairs = []
    for turn in range(rounds):
        order = (own, other) if turn % 2 else (other, own)
        done = {one.pid: _turn(one, kind, connections, seconds, stored) for one in order}
        pairs.append((done[own.pid], done[other.pid]))
    return Comparison(
        kind=kind,
        connections=connections,
        stored=stored,
        rounds=rounds,
        own=_middle([mine for mine, _ in pairs]),
        other=_middle([theirs for _, theirs in pairs]),
        rates=_range([mine.rate / theirs.rate for mine, theirs in pairs]),
        processor=_range([mine.processor_us / (theirs.processor_us or 1.0) for mine, theirs in pairs]),
    )


def _turn(one: _Running, kind: Kind, connections: int, seconds: float, stored: int) -> Turn:
    time.sleep(load.PAUSE_SECONDS)
    before = tree_seconds(one.pid)
    report = load.wrk(one.address, kind, connections, seconds, stored)
    events = load.events_of(report, kind)
    spent = 1e6 * (tree_seconds(one.pid) - before) / events
    client = 1e6 * report.own_seconds / events
    return Turn(events / report.seconds, report.p50_ms, report.p99_ms, spent, client, report.failed)


def _middle(turns: list[Turn]) -> Turn:
    return sorted(turns, key=lambda turn: turn.rate)[len(turns) // 2]


def _range(ratios: list[float]) -> tuple[float, float, float]:
    return median(ratios), min(ratios), max(ratios)
