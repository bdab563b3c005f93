"""`collector keys create`, `list`, `revoke`."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from collector.cli.output import print_json, print_table, timestamp
from collector.cli.settings import BOTH, config_of
from collector.config import Config, StorageConfig
from collector.errors import CollectorError, ConfigError
from collector.process import hardening
from collector.storage import engine
from collector.storage.engine import Keys
from collector.storage.ground import audit
from collector.storage.ground.database import DATABASE, is_there, open_existing


def create(args: argparse.Namespace) -> int:
    config = config_of(args, engines=BOTH)
    if args.store is not None and config.store_by_id(args.store) is None:
        known = ", ".join(store.id for store in config.store) or "none"
        raise ConfigError([f"--store: '{args.store}' is not in the configuration; it has {known}"])
    if args.store is None and args.kind == "publishable":
        raise ConfigError(["--store: a publishable key belongs to one store"])
    # Without a configuration the folder may be mistyped: no database is made in it.
    with _keys(config, makes=bool(args.config)) as keys:
        audit.note(config.storage.data_dir, "keys create", now_ms(), kind=args.kind, store=args.store)
        made = keys.create(args.store, args.kind, now_ms())
    if args.json:
        print_json({"id": made.id, "key": made.key, "kind": made.kind, "store": made.store})
    else:
        store = made.store or "every store"
        print_table([["key", made.key], ["id", made.id], ["kind", made.kind], ["store", store]])
    return 0


def show(args: argparse.Namespace) -> int:
    with _keys(config_of(args, engines=BOTH)) as keys:
        found = keys.list()
    if args.json:
        print_json(
            [
                {
                    "id": key.id,
                    "kind": key.kind,
                    "store": key.store,
                    "created": timestamp(key.created),
                    "revoked": timestamp(key.revoked),
                }
                for key in found
            ]
        )
    else:
        lines = [
            [key.id, key.kind, key.store or "every store", timestamp(key.created), timestamp(key.revoked) or "-"]
            for key in found
        ]
        print_table(lines, head=["id", "kind", "store", "created", "revoked"])
    return 0


def revoke(args: argparse.Namespace) -> int:
    config = config_of(args, engines=BOTH)
    with _keys(config) as keys:
        audit.note(config.storage.data_dir, "keys revoke", now_ms(), id=args.id)
        if not keys.revoke(args.id, now_ms()):
            raise CollectorError(f"no key with the id '{args.id}' is in force; `collector keys list` shows them")
    if args.json:
        print_json({"id": args.id, "revoked": True})
    else:
        print(f"{args.id} is revoked")
    return 0


@contextmanager
def _keys(config: Config, *, makes: bool = False) -> Iterator[Keys]:
    hardening.harden()
    with hardening.for_the_owner(config.storage.data_dir), engine.keys(config, makes=makes) as keys:
        if config.storage.engine == "postgres":  # for the audit: a machine that only asks has none yet
            os.makedirs(config.storage.data_dir, mode=0o700, exist_ok=True)
        yield keys


@contextmanager
def opened(config: Config, opening: Callable[[StorageConfig], Any]) -> Iterator[Any]:
    """Works beside a running `serve`: SQLite's own locks are enough for one row."""
    hardening.harden()
    there = is_there(Path(config.storage.data_dir) / DATABASE)  # then it is looked at for damage as well
    with (
        hardening.for_the_owner(config.storage.data_dir),
        closing((open_existing if there else opening)(config.storage)) as db,
    ):
        yield db


def now_ms() -> int:
    return time.time_ns() // 1_000_000
