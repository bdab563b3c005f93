"""A link that shows some days' sums of one shop to whoever has it: what it says, and that it is ours.

    TOKEN = base64url(MessagePack [id, store, first day, last day, event, expires]) "." base64url(BLAKE2b-256, keyed)

The key is a sub-key of the installation's pepper. Whatever is changed in it, the token is nobody's: also where the
change would decode to the same bytes, for there is one spelling of each.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from datetime import date
from hashlib import blake2b
from typing import Final

import msgspec
from msgspec import Struct

PURPOSE: Final = "shared links"  # of the pepper's sub-key
LONGEST: Final = 400  # characters of a token
MOST_DAYS: Final = 365  # that a link lives
_MAC_BYTES: Final = 32


class Share(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a link shows. `store` is its id; days are the shop's, both included; `expires` in ms."""

    id: str
    store: str
    first: date
    last: date
    event: str
    expires: int


_decode = msgspec.msgpack.Decoder(Share).decode


def seal(share: Share, key: bytes) -> str:
    """The link's token."""
    body = msgspec.msgpack.encode(share)
    return f"{_text(body)}.{_text(_mac(body, key))}"


def opened(token: str, key: bytes) -> Share | None:
    """What a token says; None where it is not ours. In constant time for one of the right form."""
    if len(token) > LONGEST or not token.isascii():
        return None
    said, _, proof = token.partition(".")
    body, given = _bytes(said), _bytes(proof)
    if body is None or given is None or not hmac.compare_digest(_mac(body, key), given):
        return None
    try:
        share = _decode(body)
    except msgspec.MsgspecError:
        return None
    return share if share.first <= share.last else None


def _mac(body: bytes, key: bytes) -> bytes:
    return blake2b(body, key=key, digest_size=_MAC_BYTES).digest()


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")


def _bytes(text: str) -> bytes | None:
    try:
        data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (Base64Error, ValueError):
        return None
    return data if _text(data) == text else None
