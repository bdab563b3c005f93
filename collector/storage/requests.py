"""Does what a platform has asked for a customer, on whichever engine keeps the events: erased (P1), or told (P2).

Erased is what `collector erase` would under every value that the platform named. What is held of a customer who asks is
written to a file of its own, for the shop's owner to send him.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import msgspec

from collector.config import Config
from collector.errors import CollectorError, why
from collector.storage.forgetting import erase_person, held_of
from collector.storage.verbs.person import Nameless
from collector.storage.verbs.requests import Requests, ShopRequest, asked_of

FOLDER: Final = "requests"
_encode: Final = msgspec.json.Encoder(decimal_format="number").encode


@contextmanager
def opened(config: Config) -> Iterator[Requests]:
    """What was asked, for a command."""
    if config.storage.engine == "postgres":
        from collector.storage.postgres.books import opened_requests

        with opened_requests(config) as there:
            yield there
        return
    from collector.storage.ground.database import open_existing
    from collector.storage.shops.requests import Requests as Here

    with closing(open_existing(config.storage)) as db:
        yield Here(db)


def run(config: Config, requests: Requests, request: ShopRequest, now: int) -> int:
    """Erase what the request names, and strip it to a receipt; how many orders went (P1)."""
    gone = 0
    for asked in asked_of(request):
        try:
            erased = erase_person(config, request.store, asked, now, dry_run=False)
        except Nameless:
            continue
        gone += sum(receipt.conversions for receipt in erased.receipts)
    requests.finish(request, now, gone)
    return gone


def path_of(config: Config, request: ShopRequest) -> Path:
    """Where a request's answer is, or will be, on this machine."""
    return Path(config.storage.data_dir) / FOLDER / f"{request.id}.ndjson"


def answer(config: Config, request: ShopRequest, now: int) -> Path:
    """Write the answer, a line for each name that the platform gave, readable by its owner alone; where it is.

    What is there already stays: it is what was held when he asked. Raises CollectorError where it cannot be written.
    """
    path = path_of(config, request)
    if path.exists():
        return path
    lines = b"".join(_encode(held) + b"\n" for held in _held(config, request, now))
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        partial = path.with_suffix(".partial")
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
            out.write(lines)
            out.flush()
            os.fsync(out.fileno())
        partial.replace(path)
    except OSError as error:
        raise CollectorError(f"cannot write {path}: {why(error, str(path))}") from None
    return path


def remove_answer(config: Config, request: ShopRequest) -> None:
    """Once he has his answer, nothing of him is kept for it."""
    path_of(config, request).unlink(missing_ok=True)


def _held(config: Config, request: ShopRequest, now: int) -> Iterator[object]:
    for asked in asked_of(request):
        try:
            yield held_of(config, request.store, asked, now)
        except Nameless:
            continue
