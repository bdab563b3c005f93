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
        raise ConfigError(
            [f'[storage] engine: `collector {args.command}` cannot ask "{config.storage.engine}" in this release']
        )
    return config
