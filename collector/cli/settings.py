"""The configuration that a command's flags ask for."""

from __future__ import annotations

import argparse
import os

from collector.config import Config
from collector.config_loader import Role, Settings, load, load_settings


def flags_of(args: argparse.Namespace) -> dict[str, str]:
    """Flags that are settings, by their dotted key."""
    return {"storage.data_dir": args.data_dir} if args.data_dir else {}


def settings_of(args: argparse.Namespace) -> Settings:
    return load_settings(args.config, os.environ, flags_of(args))


def config_of(args: argparse.Namespace, role: Role = "none") -> Config:
    """For a command that needs no secret: none is read or demanded."""
    return load(args.config, os.environ, flags_of(args), role=role)
