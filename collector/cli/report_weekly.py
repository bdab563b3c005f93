"""`collector report weekly`: a week of each shop beside the one before, as text or a letter; and on its way at once."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from typing import Any

from collector.cli.output import print_json
from collector.cli.settings import BOTH, config_of
from collector.config import Config
from collector.core import weekly as core
from collector.core import weeks
from collector.core.days import Days, day_of
from collector.core.digest import Digest, Line
from collector.courier.weekly_ways import send, ways_of
from collector.errors import ConfigError
from collector.storage.reports import commands
from collector.storage.reports.weekly import zone_of_week


def weekly(args: argparse.Namespace) -> int:
    config = config_of(args, role="courier" if args.send else "none", engines=BOTH)
    now = time.time_ns() // 1_000_000
    if args.store is not None and config.store_by_id(args.store) is None:
        raise ConfigError([f"--store: '{args.store}' is not in the configuration"])
    week = commands.weekly(config, _days(args, config, now), args.store)
    if args.send:
        return _send(config, week, now)
    if args.json:
        print_json(_told(week))
    else:
        sys.stdout.write(core.html(week) if args.format == "html" else core.text(week))
    return 0


def _days(args: argparse.Namespace, config: Config, now: int) -> Days:
    """The week that is asked for; the last whole one, by the shop's or the console's calendar."""
    said = args.week or args.since
    if said is None:
        return weeks.week_before(day_of(now, zone_of_week(config, args.store)))
    days = weeks.week_of(said)
    if days is None or bool(args.week) != ("W" in said):
        flag, example = ("--week", "2026-W48") if args.week else ("--since", "2026-11-23")
        raise ConfigError([f"{flag}: '{said}' is none; for example {example}"])
    return days


def _send(config: Config, week: core.Week, now: int) -> int:
    ways = ways_of(config.alerts)
    if not ways:
        raise ConfigError(["--send: there is no way; set [alerts] webhook_url, or smtp_url, email_from and email_to"])
    faults = {way: asyncio.run(send(config.alerts, way, week, now)).fault for way in ways}
    for way, fault in faults.items():
        print(f"{way}: sent" if fault is None else f"{way}: not taken ({fault})")
    return 1 if any(faults.values()) else 0


def _told(week: core.Week) -> dict[str, Any]:
    return {
        "from": str(week.days.first),
        "to": str(week.days.last),
        "spent": week.spent,
        "shops": [
            {"name": shop.name, "timezone": shop.zone, "week": _sums(shop.own), "weekBefore": _sums(shop.before)}
            for shop in week.shops
        ],
    }


def _sums(found: Digest) -> dict[str, Any]:
    return {
        "orders": found.orders,
        "attributed": found.attributed,
        "clicks": found.clicks,
        "value": found.value,
        "delivery": found.parts,
        "campaigns": {name: _line(line) for name, line in sorted(found.campaigns.items())},
    }


def _line(line: Line) -> dict[str, Any]:
    proven = {"orders": line.proven, "value": line.sure}
    return {"clicks": line.clicks, "orders": line.orders, "value": line.value, "proven": proven, "spend": line.spend}
