"""`collector bench`: this machine's figures, each beside what it is to be judged by."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from collector.bench import against, load, plan
from collector.bench.drain import Drained
from collector.bench.matches import Matching
from collector.bench.payloads import Building
from collector.bench.plan import Batch, Clicks, Ingest, Orders, Part, Size
from collector.bench.starts import Start
from collector.bench.webhooks import Hooked
from collector.cli.output import print_json, print_table
from collector.errors import ConfigError

_CLICKS = (
    "conn.",
    "stored",
    "durable/s",
    "p50 ms",
    "p99 ms",
    "unstored/s",
    "SQLite/s",
    "durable/unstored",
    "loop µs",
    "keeper µs",
)
_MATCHES = ("clicks", "kind", "attributed", "match p50 ms", "p99", "all p50 ms", "p99")

_AGAINST = (
    "posted",
    "conn.",
    "this/s",
    "other/s",
    "ratio (from to)",
    "p99 ms",
    "other",
    "processor µs",
    "other",
    "ratio",
    "client µs",
)

_HTTP = {"clicks", "batch", "orders", "ingest"}


def bench(args: argparse.Namespace) -> int:
    if args.engine == "postgres" or args.dsn is not None:
        from collector.cli import bench_postgres  # the driver is loaded where it is chosen

        return bench_postgres.bench(args)
    if "edges" in (args.only or ()):
        raise ConfigError(["--only edges: several edges are measured with --engine postgres alone"])
    parts: tuple[Part, ...] = tuple(args.only) if args.only else plan.PARTS
    if not load.has_wrk() and _HTTP & set(parts):
        raise ConfigError(
            [
                "wrk, the load generator, is not installed: `apt-get install wrk`; "
                "or leave clicks, batch, orders and ingest out by naming the others with --only"
            ]
        )
    size = plan.QUICK if args.quick else Size()
    if args.rows is not None:
        size = msgspec.structs.replace(size, rows=args.rows)
    if args.against is not None:
        return _against(args, size)
    results: list[Any] = []
    for result in plan.run(parts, size, lambda line: print(line, file=sys.stderr)):
        results.append(result)
        if not args.json:
            _show(result)
    if args.json:
        machine = {"processors": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()}
        print_json({"machine": machine, "size": size, "results": [_tagged(result) for result in results]})
    return 0


def _against(args: argparse.Namespace, size: Size) -> int:
    if not load.has_wrk():
        raise ConfigError(["wrk, the load generator, is not installed: `apt-get install wrk`"])
    own, other = against.programs(args.against)
    if not args.json:
        print(f"this program is {own.version}, the other {other.version}", flush=True)
    results: list[Any] = []
    with tempfile.TemporaryDirectory(prefix="collector-bench-") as folder:
        for result in against.run(
            (own, other),
            size.rows,
            2 * size.rounds - 1,
            size.seconds,
            Path(folder),
            lambda line: print(line, file=sys.stderr),
        ):
            results.append(result)
            if not args.json:
                _show_against(result)
    if args.json:
        print_json({"own": own.version, "other": other.version, "results": [_tagged(result) for result in results]})
    return 0


def _show_against(result: against.Comparison | against.Resting) -> None:
    if isinstance(result, against.Resting):
        print(
            f"memory at rest, all processes: {result.own_mb:.0f} MB, the other {result.other_mb:.0f} MB\n", flush=True
        )
        return
    own, other = result.own, result.other
    row = (
        result.kind,
        result.connections,
        f"{own.rate:.0f}",
        f"{other.rate:.0f}",
        "{:.2f} ({:.2f} {:.2f})".format(*result.rates),
        f"{own.p99_ms:.1f}",
        f"{other.p99_ms:.1f}",
        f"{own.processor_us:.1f}",
        f"{other.processor_us:.1f}",
        f"{result.processor[0]:.2f}",
        f"{own.client_us:.1f}",
    )
    print_table([row], _AGAINST)
    if own.failed or other.failed:
        print(f"  {own.failed} requests failed, {other.failed} of the other")
    print(flush=True)


def _tagged(result: Any) -> dict[str, Any]:
    """The result with its kind, and with its ratio where it has one."""
    fields = {"part": type(result).__name__.lower(), **msgspec.structs.asdict(result)}
    return fields | {"ratio": result.ratio} if isinstance(result, Clicks) else fields


def _show(result: plan.Result) -> None:
    match result:
        case Clicks():
            print_table([_clicks_row(result)], _CLICKS)
        case Batch():
            _show_batch(result)
        case Ingest():
            _show_ingest(result)
        case Orders(durable=done):
            print(
                f"orders over HTTP, {result.connections} connections, {result.stored} clicks stored: "
                f"{done.rate:.0f}/s, p50 {done.p50_ms:.1f} ms, p99 {done.p99_ms:.1f} ms, "
                f"loop {done.loop_us:.0f} µs, keeper {done.keeper_us:.0f} µs"
            )
        case Hooked():
            _show_hooked(result)
        case Matching():
            _show_matching(result)
        case Building():
            _show_building(result)
        case Drained():
            print(
                f"courier: {result.settled_per_second:.0f} events/s of a backlog of {result.backlog}, "
                f"memory {result.memory_at_start:.0f} MB at start, {result.memory_most:.0f} MB at most, "
                f"{result.cpu_us_per_event:.1f} µs of processor per event"
            )
        case Start():
            print(
                f"start of `{result.program} serve`: {result.seconds:.2f} s until it answers (median of {result.times})"
            )
    if failed := getattr(getattr(result, "durable", None), "failed", 0):
        print(f"  {failed} requests failed")
    print(flush=True)


def _clicks_row(result: Clicks) -> tuple[Any, ...]:
    done, not_stored = result.durable, result.unstored
    return (
        result.connections,
        result.stored,
        f"{done.rate:.0f}",
        f"{done.p50_ms:.2f}",
        f"{done.p99_ms:.2f}",
        f"{not_stored.rate:.0f}",
        f"{result.appends_per_second:.0f}",
        f"{result.ratio:.2f}",
        f"{done.loop_us:.1f} ({not_stored.loop_us:.1f} unstored)",
        f"{done.keeper_us:.1f}",
    )


def _show_batch(result: Batch) -> None:
    done = result.durable
    what = "clicks" if result.kind == "batch" else "nine clicks to an order"
    beside = (
        f", without storing {result.unstored.rate:.0f}/s, ratio {done.rate / result.unstored.rate:.2f}"
        if result.unstored
        else ""
    )
    print(
        f"batches of 1000 ({what}), {result.stored} clicks stored: {done.rate:.0f} events/s, p50 {done.p50_ms:.1f} ms, "
        f"loop {done.loop_us:.1f}, other threads {done.others_us:.1f}, keeper {done.keeper_us:.1f} µs an event{beside}"
    )


def _show_ingest(result: Ingest) -> None:
    what = "batches of 1000" if result.kind == "batch" else "single clicks"
    few, many = result.few_figures, result.figures
    print(
        f"{what}, {result.connections} connections, {result.stored} clicks stored beside {result.few}, in turn, "
        f"{result.rounds} rounds: {many.rate:.0f} beside {few.rate:.0f} events/s, ratio {result.ratio:.2f}, "
        f"p99 {many.p99_ms:.1f} beside {few.p99_ms:.1f} ms"
    )


def _show_hooked(result: Hooked) -> None:
    done, alone, beside = result.webhooks, result.alone, result.beside
    print(
        f"webhooks of {result.size} bytes, {result.asked}/s asked: {done.rate:.0f}/s acknowledged on disk, "
        f"p50 {done.p50_ms:.1f} ms, p99 {done.p99_ms:.1f} ms, loop {result.loop_us:.0f}, other threads "
        f"{result.others_us:.0f}, keeper {result.keeper_us:.0f} µs a webhook; {done.failed} failed"
    )
    print(
        f"clicks beside them: p99 {beside.p99_ms:.1f} ms, {alone.p99_ms:.1f} ms alone, ratio {result.p99_ratio:.2f}; "
        f"an order of {result.large_bytes / 1e6:.1f} MB: {result.large_ms:.0f} ms, "
        f"{result.large_cpu_ms:.0f} ms of processor time"
    )


def _show_matching(result: Matching) -> None:
    rows = [
        (
            result.clicks,
            s.kind,
            f"{s.attributed}/{s.orders}",
            f"{s.match_p50:.3f}",
            f"{s.match_p99:.3f}",
            f"{s.all_p50:.3f}",
            f"{s.all_p99:.3f}",
        )
        for s in result.kinds
    ]
    print_table(rows, _MATCHES)
    print(f"the writer alone, all kinds but the hottest in turn: {result.per_second:.0f} orders/s on disk")


def _show_building(result: Building) -> None:
    print(f"one event for Meta: {result.splice:.1f} µs to build, {result.at_intake:.1f} µs to hash once at intake")
    if result.sdk is None:
        print("  Meta's SDK is not installed here: pip install 'collector[dev]'")
    else:
        whole = result.at_intake + result.splice
        print(
            f"  Meta's SDK as it sends: {result.sdk:.1f} µs, {result.sdk / whole:.1f} times both together, "
            f"{result.sdk / result.splice:.1f} times the building"
        )
