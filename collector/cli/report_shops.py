"""`collector report reconcile`: did every order of the shop arrive, and what became of it?"""

from __future__ import annotations

import argparse
import time

from collector.cli.output import print_json
from collector.cli.report import moment
from collector.cli.settings import BOTH, config_of
from collector.cli.shop_table import show
from collector.errors import ConfigError
from collector.storage.reports import commands


def reconcile(args: argparse.Namespace) -> int:
    config, now = config_of(args, engines=BOTH), time.time_ns() // 1_000_000
    if args.store is not None and config.store_by_id(args.store) is None:
        raise ConfigError([f"--store: '{args.store}' is not in the configuration"])
    report = commands.reconcile(config, moment(args.since, now, "--since"), now, store=args.store, by=args.by)
    if args.json:
        print_json(report.lines)
        return 0
    show(report.lines, args.by)
    for store, notes in report.notes.items():
        for note in notes:
            print(f"{store}: {note}")
    return 0
