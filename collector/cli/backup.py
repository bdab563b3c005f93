"""`collector backup` and `collector restore`: the whole installation as one file, and back."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import sys
import time
from pathlib import Path

import msgspec

from collector.cli.output import print_json, print_table, timestamp
from collector.cli.settings import config_of
from collector.process import hardening
from collector.storage.ground import audit, lock
from collector.storage.ground import backup as backups


def backup(args: argparse.Namespace) -> int:
    config = config_of(args)
    hardening.harden()
    path, manifest = backups.backup(config, Path(args.to).expanduser(), _now())
    if args.json:
        print_json({"file": str(path), **msgspec.to_builtins(manifest), "at": timestamp(manifest.at)})
    else:
        rows = ", ".join(f"{n} {table}s" for table, n in manifest.rows.items() if table in ("click", "conversion"))
        print_table([["file", path], ["bytes", path.stat().st_size], ["verified", rows]])
    return 0


def restore(args: argparse.Namespace) -> int:
    """Refused beside a running collector: its lock is taken first."""
    config = config_of(args)
    hardening.harden()
    data_dir = config.storage.data_dir
    with hardening.for_the_owner(data_dir), contextlib.ExitStack() as held:
        held.callback(os.close, lock.hold(data_dir))
        done = backups.restore(config, Path(args.file).expanduser(), _now())
        audit.note(data_dir, "restore", _now(), backup=timestamp(done.manifest.at))
    at = timestamp(done.manifest.at)
    if args.json:
        print_json({"dataDir": data_dir, "at": at, "rows": done.manifest.rows, "inDoubt": done.doubtful})
        return 0
    print(f"{data_dir} is as it was at {at}; start it: collector serve {_again(args, data_dir)}")
    if done.doubtful:
        print(
            f"{done.doubtful} events waited then, and may have been sent since: they go out again with the same ids, "
            "which Meta counts once, within 47 hours of the backup; later they are rejected, with the reason",
            file=sys.stderr,
        )
    return 0


def _again(args: argparse.Namespace, data_dir: str) -> str:
    return f"--config {shlex.quote(args.config)}" if args.config else f"--data-dir {shlex.quote(data_dir)}"


def _now() -> int:
    return time.time_ns() // 1_000_000
