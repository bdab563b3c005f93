"""`collector clock`: what time is believed. It reads only; `accept` writes, in another process."""

from __future__ import annotations

import argparse

from collector.cli.output import print_json, print_table
from collector.cli.settings import BOTH, config_of
from collector.exchange.clock import system_ms
from collector.storage.reports import commands


def show(args: argparse.Namespace) -> int:
    found = commands.clock(config_of(args, engines=BOTH), system_ms())
    if args.json:
        print_json(found)
        return 0
    meta = "not known" if found.meta_ahead_seconds is None else f"{found.meta_ahead_seconds} s ahead of this one"
    print_table([["this machine", found.system], ["trusted", found.trusted], ["Meta's clock", meta]])
    print(found.advice or "nothing is held")
    return 0
