"""`collector config hash-password`: the console's password as the configuration keeps it."""

from __future__ import annotations

import argparse
import getpass
import sys

from collector.console.auth import hash_password
from collector.errors import ConfigError

SHORTEST = 12  # characters; NIST SP 800-63B asks for 8, and for 15 where it is the only factor


def hash_it(args: argparse.Namespace) -> int:
    """Ask on a terminal, twice; else take the first line of stdin. Never an argument: `ps` shows those."""
    password = _asked() if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
    if len(password) < SHORTEST:
        raise ConfigError([f"a password has at least {SHORTEST} characters"])
    print(hash_password(password))
    return 0


def _asked() -> str:
    password = getpass.getpass("password: ")
    if getpass.getpass("again: ") != password:
        raise ConfigError(["the two are not the same"])
    return password
