"""`collector migrate`: an SQLite installation becomes one over PostgreSQL."""

from __future__ import annotations

import argparse
from typing import Any

import msgspec

from collector.cli.output import print_json, print_table, timestamp
from collector.cli.progress import Bar
from collector.cli.settings import config_of
from collector.process import hardening
from collector.storage.moving.move import Receipt, move


def run(args: argparse.Namespace) -> int:
    config = config_of(args, engines=("postgres",))
    hardening.harden()
    copied = 0
    with hardening.for_the_owner(config.storage.data_dir), Bar(0, "rows") as bar:

        def show(rows: int) -> None:
            nonlocal copied
            copied += rows
            bar.show(0, copied)

        receipt = move(config, resume=args.resume, dry_run=args.dry_run, show=show)
    if args.json:
        print_json({**msgspec.to_builtins(receipt), "at": timestamp(receipt.at or None)})
    else:
        print_table(_lines(receipt))
    return 0


def _lines(receipt: Receipt) -> list[list[Any]]:
    rows = [[table, n] for table, n in receipt.rows.items() if n]
    if not receipt.at:
        return [["to", receipt.to], *rows, ["moved", "nothing: --dry-run"]]
    proof = f"counts of every table and store, {receipt.compared} conversions one by one"
    return [
        ["to", receipt.to],
        *rows,
        ["compared", proof],
        ["moved", f"{timestamp(receipt.at)}, in {receipt.seconds} s; the SQLite file is marked and kept"],
    ]
