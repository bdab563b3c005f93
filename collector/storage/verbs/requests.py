"""What a platform asks for a person (P1-P3): as it stands, as its receipt, and under which values he is known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, Protocol

import msgspec
from msgspec import Struct

from collector.exchange.shops import Who
from collector.storage.verbs.person import Asked

COLUMNS: Final = "id, store, kind, at, asked, done, found"
encode_who: Final = msgspec.msgpack.Encoder().encode
_decode_who: Final = msgspec.msgpack.Decoder(Who).decode


class ShopRequest(Struct, frozen=True):
    """A request as it stands. `found`: how many orders went; None: open, or dismissed."""

    id: str
    store: str
    kind: str
    at: int
    who: Who
    done: int | None
    found: int | None


class Requests(Protocol):
    """What an engine keeps of them."""

    def all(self) -> list[ShopRequest]:
        """Every request, the newest last."""
        ...

    def finish(self, request: ShopRequest, now: int, found: int | None) -> None:
        """Strip a request to its receipt; `found`: how many orders went now, None where it is dismissed."""
        ...


def request_of(row: Sequence[Any]) -> ShopRequest:
    """Of its COLUMNS."""
    name, store, kind, at, asked, done, found = row
    return ShopRequest(name, store, kind, at, _decode_who(asked), done, found)


def receipt_of(request: ShopRequest) -> bytes:
    """What is kept of who was meant, once it is done: nothing."""
    return encode_who(Who(request.who.kind, request.store))


def asked_of(request: ShopRequest) -> Iterator[Asked]:
    """Each name of the person and of his orders that the platform gave."""
    who, own = request.who, request.id
    if who.external_id:
        yield Asked(external_id=who.external_id, request=own)
    if who.email:
        yield Asked(email=who.email, request=own)
    if who.phone:
        yield Asked(phone=who.phone, request=own)
    for order in who.orders:
        yield Asked(order=order, request=own)
