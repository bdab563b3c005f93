"""`collector version`: what exactly is running?"""

from __future__ import annotations

import argparse
import platform

import collector
from collector.cli import inside
from collector.cli.output import print_json
from collector.release import revision
from collector.storage.ground.library import sqlite_version


def version(args: argparse.Namespace) -> int:
    if args.licences:
        print(inside.licences(inside.parts()), end="")
        return 0
    if args.sbom:
        print_json(inside.sbom(inside.parts()))
        return 0
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
