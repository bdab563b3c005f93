"""`collector damage show` and `collector damage accept`: what the database has lost, and going on without it."""

from __future__ import annotations

import argparse
import time
from contextlib import closing
from pathlib import Path

from collector.cli.output import print_json
from collector.cli.settings import config_of
from collector.storage.ground import audit, damage
from collector.storage.ground.database import open_existing


def show(args: argparse.Namespace) -> int:
    """0 where nothing is known to be missing; else 3, as every other command."""
    config = config_of(args)
    open_existing(config.storage).close()
    print_json({"damage": None}) if args.json else print("nothing is known to be lost or damaged")
    return 0


def accept(args: argparse.Namespace) -> int:
    config = config_of(args)
    data_dir = Path(config.storage.data_dir)
    with closing(open_existing(config.storage, accepting=True)):
        accepted = damage.told(data_dir)
        audit.note(data_dir, "damage accept", time.time_ns() // 1_000_000, accepted=accepted)
        damage.forget(data_dir)
    if args.json:
        print_json({"accepted": accepted})
    else:
        print(f"accepted: {accepted}" if accepted else "nothing is known to be lost: there is nothing to accept")
    return 0
