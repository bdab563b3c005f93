"""`collector bench --engine postgres`: the second engine beside the first, in the same run."""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from collector.bench import load
from collector.bench.plan import QUICK, Size
from collector.bench.postgres import cluster, plan
from collector.bench.postgres.plan import Bytes, Clicks, Drained, Edges, Orders, Part, Result
from collector.cli.output import print_json
from collector.config_loader import engines
from collector.errors import ConfigError


def bench(args: argparse.Namespace) -> int:
    """Print each result as soon as it is known; the exit code."""
    parts = _parts(args)
    size = QUICK if args.quick else Size(backlog=300_000)
    if args.rows is not None:
        size = msgspec.structs.replace(size, rows=args.rows)
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="collector-bench-") as folder, contextlib.ExitStack() as stack:
        home = Path(folder)
        server = cluster.named(args.dsn) if args.dsn else stack.enter_context(cluster.own())
        for result in plan.run(parts, size, server, home, lambda line: print(line, file=sys.stderr)):
            results.append(result)
            if not args.json:
                print(_said(result), flush=True)
    if args.json:
        machine = {"processors": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()}
        print_json({"machine": machine, "size": size, "results": [_tagged(result) for result in results]})
    return 0


def _parts(args: argparse.Namespace) -> tuple[Part, ...]:
    if args.dsn is not None and not engines.is_whole(args.dsn):
        raise ConfigError(["--dsn: it names no server; write postgresql://USER@HOST/DATABASE"])
    if args.against is not None:
        raise ConfigError(["--against compares releases over SQLite; leave --engine and --dsn out"])
    unknown = [name for name in args.only or () if name not in plan.PARTS]
    if unknown:
        raise ConfigError([f"--only {unknown[0]}: of PostgreSQL there are {', '.join(plan.PARTS)}"])
    parts: tuple[Part, ...] = tuple(args.only) if args.only else plan.PARTS
    if not load.has_wrk() and {"clicks", "edges"} & set(parts):
        raise ConfigError(
            ["wrk, the load generator, is not installed: `apt-get install wrk`; or --only matching drain needs none"]
        )
    return parts


def _tagged(result: Result) -> dict[str, Any]:
    return {"part": type(result).__name__.lower(), **msgspec.structs.asdict(result)}


def _said(result: Result) -> str:
    match result:
        case Clicks():
            return (
                f"single clicks, {result.stored} stored, {result.rounds} rounds in turn: {result.rate:.0f}/s, SQLite "
                f"{result.sqlite_rate:.0f}/s; edge and keeper {result.edge_us:.1f} µs a click, SQLite's "
                f"{result.sqlite_us:.1f}, ratio {result.ratio:.2f}; server {result.server_us:.1f} µs and "
                f"{result.log_bytes:.0f} bytes of its log a click"
            )
        case Edges():
            return (
                f"one edge {result.one:.0f} clicks/s, {plan.EDGES} edges {result.three:.0f}, in turn, {result.rounds} "
                f"rounds: ratio {result.ratio:.2f}; server {result.server_us:.1f} µs a click"
            )
        case Orders():
            return (
                f"orders ({result.kind}, {result.attributed} of {result.orders} attributed), {result.stored} clicks "
                f"stored: keeper {result.keeper_us:.0f} µs, server {result.server_us:.0f} µs an order in groups of 64; "
                f"alone {result.alone_ms:.2f} ms (p50)"
            )
        case Drained():
            return (
                f"drain, {result.couriers} at once: {result.per_second:.0f} events/s of {result.events}, couriers "
                f"{result.courier_us:.1f} µs, server {result.server_us:.1f} µs an event"
            )
        case Bytes():
            return (
                f"a stored {result.what} (of {result.rows}): {result.table:.0f} bytes of rows, {result.index:.0f} of "
                f"indexes, {result.log:.0f} of the log"
            )
