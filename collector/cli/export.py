"""`collector export`: everything that is kept, one object a line or as a table, beside a running `serve`."""

from __future__ import annotations

import argparse
import sys
from typing import BinaryIO

from collector.cli.output import private_file, refuse_ours
from collector.cli.progress import Bar
from collector.cli.settings import BOTH, config_of
from collector.config import Config
from collector.errors import ConfigError
from collector.storage.reports import commands


def export(args: argparse.Namespace) -> int:
    config = config_of(args, engines=BOTH)
    if args.store is not None and config.store_by_id(args.store) is None:
        raise ConfigError([f"--store: '{args.store}' is not in the configuration"])
    rows = _write(args, config, sys.stdout.buffer) if args.output is None else _to_file(args, config)
    print(f"{rows} {args.what} exported", file=sys.stderr)
    return 0


def _to_file(args: argparse.Namespace, config: Config) -> int:
    refuse_ours("--output", args.output, config)
    with private_file(args.output) as out:
        return _write(args, config, out)


def _write(args: argparse.Namespace, config: Config, out: BinaryIO) -> int:
    with Bar(1, "rows") as bar:
        return commands.export(
            config, args.what, args.format, out, store=args.store, progress=lambda rows, done: bar.show(done, rows)
        )
