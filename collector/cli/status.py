"""`collector status`: how everything stands, at a glance."""

from __future__ import annotations

import argparse
import time

from collector.cli import machines
from collector.cli.figures import show_rest, show_sales
from collector.cli.formatting import duration, section
from collector.cli.output import print_json, print_table
from collector.cli.settings import BOTH, config_of
from collector.storage.reports import commands
from collector.storage.reports.status import Status


def status(args: argparse.Namespace) -> int:
    config = config_of(args, engines=BOTH)
    if config.storage.engine == "postgres":
        return machines.status(config, as_json=args.json)
    found = commands.status(config, time.time_ns() // 1_000_000)
    if args.json:
        print_json(found)
    else:
        _show(found)
    return 0


def _show(found: Status) -> None:
    stored = f"{found.total_clicks} clicks, {found.total_conversions} conversions and events"
    print_table([["database", f"{found.database}, {found.database_bytes / 1e6:.1f} MB, {stored}"]])
    if found.clock.advice:
        print(found.clock.advice)
    held = f", held up by a reader for {duration(found.oldest_reader_seconds)}" if found.oldest_reader_seconds else ""
    print_table([["log", f"{found.wal_bytes / 1e6:.1f} MB{held}"]])
    show_sales(found)
    waiting = [[q.pixel, q.state, q.events, duration(q.oldest_seconds)] for q in found.queue]
    section("queue", waiting or [["empty", "", "", ""]], ["pixel", "state", "events", "oldest"])
    pixels = [[p.pixel, p.state, p.since or "-", p.last_success or "never", p.reason or "-"] for p in found.pixels]
    section("delivery", pixels, ["pixel", "state", "since", "last success", "reason"])
    show_rest(found)
    section("processes", [[p.process, f"{duration(p.age_seconds)} ago"] for p in found.processes], ["name", "seen"])
