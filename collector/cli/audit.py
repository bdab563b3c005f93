"""`collector audit`: who did what."""

from __future__ import annotations

import argparse

from msgspec import to_builtins

from collector.cli.output import print_json, print_table
from collector.cli.settings import BOTH, config_of
from collector.storage.ground import audit


def run(args: argparse.Namespace) -> int:
    entries, _ = audit.read(config_of(args, engines=BOTH).storage.data_dir)
    if args.json:
        print_json([to_builtins(entry) for entry in entries])
    else:
        rows = [[e.at, e.who, e.action, " ".join(f"{k}={v}" for k, v in e.about.items() if v)] for e in entries]
        print_table(rows, head=["at", "who", "did", "about"])
    return 0
