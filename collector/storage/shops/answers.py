"""What is held of a customer who asks, written for the shop's owner to send him (P2)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import msgspec

from collector.config import Config
from collector.errors import CollectorError, why
from collector.storage.people.held import held_of
from collector.storage.shops.erasure import asked_of
from collector.storage.shops.requests import ShopRequest
from collector.storage.verbs.person import Nameless

FOLDER: Final = "requests"
_encode: Final = msgspec.json.Encoder(decimal_format="number").encode


def path_of(config: Config, request: ShopRequest) -> Path:
    """Where a request's answer is, or will be."""
    return Path(config.storage.data_dir) / FOLDER / f"{request.id}.ndjson"


def write(config: Config, request: ShopRequest, now: int) -> Path:
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


def remove(config: Config, request: ShopRequest) -> None:
    """Once he has his answer, nothing of him is kept for it."""
    path_of(config, request).unlink(missing_ok=True)


def _held(config: Config, request: ShopRequest, now: int) -> list[object]:
    found: list[object] = []
    for asked in asked_of(request):
        try:
            found.append(held_of(config, request.store, asked, now))
        except Nameless:
            continue
    return found
