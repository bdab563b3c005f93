"""`collector status` over PostgreSQL: the primary, its standbys, the edges of all machines, what waits for Meta."""

from __future__ import annotations

import time
from typing import Any

from msgspec import Struct, structs

from collector.cli.figures import show_rest, show_sales
from collector.cli.formatting import duration, section
from collector.cli.output import print_json, print_table
from collector.config import Config
from collector.storage.reports import commands
from collector.storage.rules.standing import Reads


def _reads(found: Reads) -> str:
    if found.problem is not None:
        return f"at dsn, since {found.at} cannot be asked: {found.problem}"
    return f"at {found.at}, {'a standby' if found.standby else 'no standby'}, {found.behind_seconds} s behind"


def _fields(found: Struct) -> dict[str, Any]:
    """By their names in an answer."""
    return dict(zip(type(found).__struct_encode_fields__, structs.astuple(found), strict=True))


def status(config: Config, *, as_json: bool) -> int:
    from collector.storage.postgres.standing import standing  # the driver is loaded where it is chosen

    found = standing(config.storage)
    summed = commands.figures(config, time.time_ns() // 1_000_000) if found.schema else None
    if as_json:
        print_json({**_fields(found), **(_fields(summed) if summed is not None else {})})
        return 0
    kept = f"about {found.clicks} clicks, {found.conversions} conversions and events" if found.schema else "empty"
    used = f"{found.connections} of {found.most_connections} connections"
    print_table(
        [
            ["database", f"{found.version} at {found.primary}, {found.database_bytes / 1e6:.1f} MB, {kept}"],
            ["", f"schema {found.schema}, {used}, its clock {found.clock_ahead_ms:+d} ms against this one"],
        ]
    )
    if found.reads is not None:
        print_table([["the console reads", _reads(found.reads)]])
    for doubt in found.doubts:
        print(doubt)
    standbys = [[s.name, s.state, s.sync, f"{s.behind_bytes / 1e6:.1f} MB"] for s in found.standbys]
    section("standbys", standbys or [["none", "", "", ""]], ["name", "state", "commits wait", "behind"])
    edges: list[list[object]] = [
        [e.number, e.owner, f"{duration(e.silent_seconds)} ago", "ended without a word" if e.over else "at work"]
        for e in found.edges
    ]
    section("edges", edges or [["none", "", "", ""]], ["number", "host and process", "seen", "is"])
    if summed is not None:
        show_sales(summed)
    waiting: list[list[object]] = [[q.pixel, q.state, q.events, duration(q.oldest_seconds)] for q in found.queue]
    section("queue", waiting or [["empty", "", "", ""]], ["pixel", "state", "events", "oldest"])
    pixels = [[p.pixel, p.state, p.courier or "-", p.reason or "-"] for p in found.pixels]
    section("delivery", pixels, ["pixel", "state", "courier", "reason"])
    if summed is not None:
        show_rest(summed)
    return 0
