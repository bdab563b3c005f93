"""Drives an edge with wrk and reads what came of it: rate, latency, and the server's time on a processor."""

from __future__ import annotations

import contextlib
import resource
import shutil
import subprocess
import time
from importlib import resources
from itertools import count
from typing import Final, Literal

import msgspec
from msgspec import Struct

from collector.bench.children import Child, children_seconds, cpu_seconds
from collector.bench.people import STORE as STORE  # load.lua writes the same id
from collector.bench.servers import Address
from collector.errors import CollectorError
from collector.process.unpacked import foreign_environment

Kind = Literal["click", "batch", "mixed", "order"]
ITEMS: Final = 1000  # of a batch, in load.lua
_RUN_STRIDE: Final = 5_000_000  # numbers that one run of wrk may use up; twenty runs before a phone number comes twice
PAUSE_SECONDS: Final = 0.5  # until what the run before has left is done
_runs = count(1)


class Figures(Struct, frozen=True):
    """One run. Microseconds of processor per request (of a batch: per event): the loop, other threads, the keeper."""

    rate: float
    p50_ms: float
    p99_ms: float
    loop_us: float
    others_us: float
    keeper_us: float
    failed: int


class Report(Struct):
    """What wrk says of one run, and what it took of a processor itself."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    failed: int
    own_seconds: float = 0.0


def has_wrk() -> bool:
    return shutil.which("wrk") is not None


def begin_after(number: int) -> None:
    """Have runs use numbers above this one: those up to it are clicks that are stored."""
    global _runs
    _runs = count(max(next(_runs), number // _RUN_STRIDE + 1))


def drive(edge: Child, kind: Kind, connections: int, seconds: float, stored: int = 0) -> Figures:
    """Load an edge for so long, with numbers that no run before has used."""
    time.sleep(PAUSE_SECONDS)
    before, kept = cpu_seconds(edge.pid), children_seconds(edge.pid)
    report = wrk(edge.said, kind, connections, seconds, stored)
    after = cpu_seconds(edge.pid)
    events = events_of(report, kind)
    spent = [1e6 * (b - a) / events for a, b in zip([*before, *[0.0] * len(after)], after, strict=False)]
    return Figures(
        rate=events / report.seconds,
        p50_ms=report.p50_ms,
        p99_ms=report.p99_ms,
        loop_us=spent[0] if spent else 0.0,
        others_us=sum(spent[1:]),
        keeper_us=1e6 * max(0.0, children_seconds(edge.pid) - kept) / events,
        failed=report.failed,
    )


def events_of(report: Report, kind: Kind) -> int:
    """How many clicks and orders were posted; one where there were none, as what it divides has no meaning then."""
    return report.requests * (ITEMS if kind in ("batch", "mixed") else 1) or 1


def wrk(address: Address, kind: Kind, connections: int, seconds: float, stored: int) -> Report:
    """Post from so many connections for so long, with numbers that no run before has used."""
    script = resources.files("collector.bench").joinpath("assets/load.lua")
    first = next(_runs) * _RUN_STRIDE
    with resources.as_file(script) as path:
        command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "30s", "--latency"]
        command += ["-s", str(path), f"http://127.0.0.1:{address.port}/"]
        command += ["--", kind, address.key, str(first), str(stored)]
        before = _waited_for()
        done = subprocess.run(command, env=foreign_environment(), capture_output=True, text=True, check=False)
    for line in reversed(done.stdout.splitlines()):
        with contextlib.suppress(msgspec.DecodeError, msgspec.ValidationError):
            report = msgspec.json.decode(line, type=Report)
            report.own_seconds = _waited_for() - before
            return report
    raise CollectorError(f"wrk failed: {done.stderr.strip() or done.stdout.strip()}")


def _waited_for() -> float:
    """Seconds on a processor of the children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
