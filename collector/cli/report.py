"""`collector report attribution`: which campaign, ad, page or day has earned the orders, under a credit model."""

from __future__ import annotations

import argparse
import re
import time
from typing import Final

from collector.cli.output import print_json, print_table
from collector.cli.settings import BOTH, config_of
from collector.config import Config
from collector.core import times
from collector.errors import ConfigError
from collector.storage.reports import commands
from collector.storage.reports.attribution import WINDOWS, Line, Question, Report

DAY_MS: Final = 86_400_000
_SPANS: Final = {"d": DAY_MS, "h": 3_600_000}


def attribution(args: argparse.Namespace) -> int:
    config, now = config_of(args, engines=BOTH), time.time_ns() // 1_000_000
    since, until = moment(args.since, now, "--since"), moment(args.until, now, "--until") if args.until else now
    if since >= until:
        raise ConfigError([f"--since: {times.text(since)} is not before {times.text(until)}, where the report ends"])
    question = Question(
        model=args.model or config.matching.model,
        by=args.by,
        since=since,
        until=until,
        window_days=_window(args.window, config),
        day_of=args.day_of,
        event_type=args.event,
        store=_store(args, config),
    )
    report = commands.attribution(config, question)
    if args.json:
        print_json(report)
    else:
        _show(report)
    return 0


def moment(text: str, now: int, flag: str) -> int:
    """`30d`, `12h` (before now), a date or an RFC 3339 time; ms."""
    if span := re.fullmatch(r"([0-9]{1,5})([dh])", text):
        return now - int(span[1]) * _SPANS[span[2]]
    at = times.parse(f"{text}T00:00:00Z" if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text) else text)
    if at is None:
        raise ConfigError([f"{flag}: '{text}' is not a span (30d, 12h), a date or an RFC 3339 time"])
    return at


def _window(days: int | None, config: Config) -> int:
    window = days if days is not None else config.matching.window_days
    if days is not None and days not in WINDOWS:
        raise ConfigError([f"--window: {days} is none of {', '.join(map(str, WINDOWS))} days"])
    return window


def _store(args: argparse.Namespace, config: Config) -> int | None:
    if args.store is None:
        return None
    if config.store_by_id(args.store) is None:
        raise ConfigError([f"--store: '{args.store}' is not in the configuration"])
    number = commands.store_number(config, args.store)
    return -1 if number is None else number  # a store without rows has no orders


def _show(report: Report) -> None:
    print(f"{report.orders} orders from {report.since} to {report.until}, {report.model}, {report.window_days} days")
    head = [report.by, "currency", "conversions", "value"]
    rows = [[line.label, line.currency or "-", f"{line.conversions:.2f}", str(line.value)] for line in report.lines]
    if report.spend_days:
        print(f"spend of the ad account's days {report.spend_days}; ROAS of proven orders alone, and of all")
        head += ["spend", "cost each", "ROAS"]
        rows = [[*row, *_cost(line)] for row, line in zip(rows, report.lines, strict=True)]
    print_table(rows, head=head)


def _cost(line: Line) -> list[str]:
    each = "-" if line.cost_per_conversion is None else f"{line.cost_per_conversion:.2f}"
    roas = "-" if line.roas is None else f"{line.roas_proven:.2f} - {line.roas:.2f}"
    return ["-" if line.spend is None else f"{line.spend:.2f}", each, roas]
