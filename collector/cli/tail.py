"""`collector tail`: what happens, as it happens, the newest below. Ctrl-C ends it."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from typing import Any, Final

import msgspec

from collector.cli.settings import BOTH, config_of
from collector.config import Config
from collector.errors import ConfigError
from collector.storage.reports import commands
from collector.storage.reports.live import KINDS, Item

_EVERY_SECONDS: Final = 0.5
_encode = msgspec.json.Encoder(decimal_format="number").encode


def run(args: argparse.Namespace) -> int:
    config = config_of(args, engines=BOTH)
    if args.store is not None and config.store_by_id(args.store) is None:
        raise ConfigError([f"--store: '{args.store}' is not in the configuration"])
    try:
        asyncio.run(_follow(args, config))
    except KeyboardInterrupt:
        return 0
    return 0


async def _follow(args: argparse.Namespace, config: Config) -> None:
    kinds = set(args.kind or KINDS)
    async with commands.following(config, store=args.store, kinds=kinds) as follower:
        await follower.begin(_now(), args.last)
        while True:
            found = await follower.step(_now())
            for item in found:
                print(_encode(item).decode() if args.json else _line(item))
            sys.stdout.flush()
            if not found:
                await asyncio.sleep(_EVERY_SECONDS)


def _line(item: Item) -> str:
    rest = {name: value for name, value in item.items() if name not in ("at", "kind", "store")}
    said = "  ".join(filter(None, (_said(name, value) for name, value in rest.items())))
    return f"{item['at']}  {item['kind']:<7}  {item.get('store') or '-':<16}  {said}".rstrip()


def _said(name: str, value: Any) -> str:
    if value is None or value is False:
        return ""
    return name if value is True else f"{name}={value}"


def _now() -> int:
    return time.time_ns() // 1_000_000
