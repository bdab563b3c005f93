"""An API key as it is kept: its hash, its kind, its store."""

from __future__ import annotations

from hashlib import sha256
from typing import Literal

from msgspec import Struct

Kind = Literal["secret", "publishable"]


class ApiKey(Struct, frozen=True):
    """A key as it is kept. `store` None: every store."""

    id: str
    hash: bytes
    kind: Kind
    store: str | None
    created: int
    revoked: int | None


def digest(key: str | bytes) -> bytes:
    """What is kept of a key, and what it is looked up by."""
    return sha256(key.encode() if isinstance(key, str) else key).digest()
