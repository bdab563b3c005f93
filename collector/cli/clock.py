"""`collector clock` and `collector clock accept`: what time is believed, and that this machine's clock is right."""

from __future__ import annotations

import argparse
from contextlib import closing

from collector.cli.output import print_json, print_table
from collector.cli.settings import config_of
from collector.core import times
from collector.exchange.clock import Clock, system_ms
from collector.process import hardening
from collector.storage.ground import audit
from collector.storage.ground.clock import Kept
from collector.storage.ground.database import open_existing
from collector.storage.reports import commands


def show(args: argparse.Namespace) -> int:
    found = commands.clock(config_of(args), system_ms())
    if args.json:
        print_json(found)
        return 0
    meta = "not known" if found.meta_ahead_seconds is None else f"{found.meta_ahead_seconds} s ahead of this one"
    print_table([["this machine", found.system], ["trusted", found.trusted], ["Meta's clock", meta]])
    print(found.advice or "nothing is held")
    return 0


def accept(args: argparse.Namespace) -> int:
    """Works beside a running `serve`, which sees it within seconds."""
    config = config_of(args)
    hardening.harden()
    now = Clock().reading()
    with closing(open_existing(config.storage)) as db:
        audit.note(config.storage.data_dir, "clock accept", now.system)
        Kept(db).accept(now)
    accepted = times.text(now.system)
    print_json({"accepted": accepted}) if args.json else print(f"accepted: it is {accepted}")
    return 0
