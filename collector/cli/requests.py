"""`collector requests list|run|dismiss`: what shop platforms have asked for their customers (P1 to P3)."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any, Final

from collector.cli.output import print_json, print_table, timestamp
from collector.cli.settings import BOTH, config_of
from collector.config import Config
from collector.errors import CollectorError, ConfigError
from collector.process import hardening
from collector.storage import requests as storage
from collector.storage.ground import audit
from collector.storage.verbs.requests import ShopRequest

_WORDS: Final = {
    "redact": "erase a customer",
    "data_request": "tell a customer what is held of him",
    "shop_redact": "erase the whole shop",
    "uninstalled": "the app was taken off the shop",
}


def show(args: argparse.Namespace) -> int:
    requests = _all(config_of(args, engines=BOTH))
    if args.json:
        print_json([_row(one) for one in requests])
    else:
        rows = [[one.id, one.store, _WORDS.get(one.kind, one.kind), timestamp(one.at), _state(one)] for one in requests]
        print_table(rows, head=["id", "store", "asks to", "since", "state"])
    return 0


def _row(one: ShopRequest) -> dict[str, Any]:
    done = timestamp(one.done) if one.done else None
    return {
        "id": one.id,
        "store": one.store,
        "kind": one.kind,
        "at": timestamp(one.at),
        "done": done,
        "erased": one.found,
    }


def _state(one: ShopRequest) -> str:
    if one.done is None:
        return "open"
    return "dismissed" if one.found is None else f"done: {one.found} orders erased"


def run(args: argparse.Namespace) -> int:
    config, request = _open(args)
    hardening.harden()
    if request.kind == "shop_redact":
        raise CollectorError(
            f"{request.id} asks to erase the whole shop {request.store}, which nothing does by itself: "
            "if that is meant, end the collector and delete its data directory; "
            "if not, `collector requests dismiss` it"
        )
    if request.kind == "data_request":
        audit.note(config.storage.data_dir, "requests run", _now(), id=request.id, store=request.store)
        path = str(storage.answer(config, request, _now()))
        then = f"send him {path}, and `collector requests dismiss {request.id}`, which deletes it"
        print_json({"id": request.id, "file": path}) if args.json else print(f"{request.id}: {then}")
        return 0
    audit.note(config.storage.data_dir, "requests run", _now(), id=request.id, store=request.store)
    with storage.opened(config) as requests:
        gone = storage.run(config, requests, request, _now())
    print_json({"id": request.id, "erased": gone}) if args.json else print(f"{request.id}: {gone} orders erased")
    return 0


def dismiss(args: argparse.Namespace) -> int:
    config, request = _open(args)
    if not args.yes:
        if not sys.stdin.isatty():
            raise ConfigError(["--yes: nobody is there to be asked"])
        print(
            f"{_WORDS.get(request.kind, request.kind)}, {request.store}: strike it out undone? [y/N] ",
            end="",
            flush=True,
        )
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise CollectorError("nothing was changed")
    audit.note(config.storage.data_dir, "requests dismiss", _now(), id=request.id, store=request.store)
    with storage.opened(config) as requests:
        requests.finish(request, _now(), None)
    storage.remove_answer(config, request)
    print_json({"id": request.id, "dismissed": True}) if args.json else print(f"{request.id}: dismissed")
    return 0


def _open(args: argparse.Namespace) -> tuple[Config, ShopRequest]:
    config = config_of(args, engines=BOTH)
    request = next((one for one in _all(config) if one.id == args.id), None)
    if request is None:
        raise ConfigError([f"no request '{args.id}'; `collector requests list` shows them"])
    if request.done is not None:
        raise CollectorError(f"{request.id}: {_state(request)}")
    return config, request


def _all(config: Config) -> list[ShopRequest]:
    with storage.opened(config) as requests:
        return requests.all()


def _now() -> int:
    return time.time_ns() // 1_000_000
