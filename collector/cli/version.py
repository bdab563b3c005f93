"""`collector version`: what exactly is running?"""

from __future__ import annotations

import argparse
import platform
from importlib import resources

import collector
from collector.cli.output import print_json
from collector.storage.library import sqlite_version

REVISION = "revision.txt"  # put into the binary by build.spec


def revision() -> str | None:
    """The git revision that this was built from; None from a checkout, which nobody asks at run time."""
    baked = resources.files("collector").joinpath(REVISION)
    return baked.read_text(encoding="ascii").strip() or None if baked.is_file() else None


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
