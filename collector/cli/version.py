"""`collector version`: what exactly is running?"""

from __future__ import annotations

import argparse
import platform

import collector
from collector.cli.output import print_json
from collector.release import revision
from collector.storage.ground.library import sqlite_version


def version(args: argparse.Namespace) -> int:
    facts = {
        "version": collector.__version__,
        "revision": revision(),
        "sqlite": sqlite_version(),
        "python": platform.python_version(),
    }
    if args.json:
        print_json(facts)
    else:
        print(f"collector {facts['version']} (revision {facts['revision'] or 'unknown'}, SQLite {facts['sqlite']})")
    return 0
