"""API keys: made once, shown once, kept as a hash."""

from __future__ import annotations

import secrets
import string
from typing import Final

from msgspec import Struct

from collector.errors import CollectorError
from collector.exchange.keys import Kind

_PREFIX: Final = {"secret": "sk_", "publishable": "pk_"}
_ALPHABET: Final = string.ascii_letters + string.digits
_LENGTH: Final = 40  # 238 bits: no slow hash is needed against guessing


class NewKey(Struct, frozen=True):
    """A key at the only moment when it is known."""

    id: str
    key: str
    kind: Kind
    store: str | None


def new_key(store: str | None, kind: Kind) -> NewKey:
    """Make one; a publishable key always belongs to one store."""
    if kind == "publishable" and store is None:
        raise CollectorError("a publishable key belongs to a store: add --store ID")
    return NewKey(
        id="key_" + secrets.token_hex(6),
        key=_PREFIX[kind] + "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH)),
        kind=kind,
        store=store,
    )
