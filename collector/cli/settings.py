"""The configuration that a command's flags ask for."""

from __future__ import annotations

import argparse
import os
from collections.abc import Collection
from typing import Final

from collector.config import Config
from collector.config_loader import Role, Settings, load, load_settings
from collector.errors import ConfigError

BOTH: Final = ("sqlite", "postgres")
# What the server does itself.
_INSTEAD: Final = {
    **dict.fromkeys(
        ("backup", "restore"),
        "is for SQLite; PostgreSQL's backups are its own: pg_basebackup, and recovery to a point in time",
    ),
    **dict.fromkeys(
        ("damage show", "damage accept"),
        "is for SQLite; PostgreSQL tells of damage itself: pg_amcheck, and data checksums (initdb -k)",
    ),
}


def flags_of(args: argparse.Namespace) -> dict[str, str]:
    """Flags that are settings, by their dotted key."""
    return {"storage.data_dir": args.data_dir} if args.data_dir else {}


def settings_of(args: argparse.Namespace) -> Settings:
    return load_settings(args.config, os.environ, flags_of(args))


def config_of(args: argparse.Namespace, role: Role = "none", *, engines: Collection[str] = ("sqlite",)) -> Config:
    """For a command that needs no secret but the database's: no other is read or demanded.

    `engines`: those that it can ask; ConfigError where another one is set.
    """
    config = load(args.config, os.environ, flags_of(args), role=role)
    if config.storage.engine not in engines:
        instead = _INSTEAD.get(args.command, 'cannot ask "postgres" in this release')
        raise ConfigError([f"[storage] engine: `collector {args.command}` {instead}"])
    return config
