"""What edge and keeper say of a shop beside its orders: how each is entered in its list, what waits, what is asked."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

from msgspec import Struct

from collector.core.shops.counted import WEBHOOK

Kind = Literal["redact", "data_request", "shop_redact", "uninstalled"]


class KeptOut(Struct, array_like=True, frozen=True, gc=False):
    """An order that a shop tells of and that is kept out of our own: a till's, say. `name`: as conversion.dedup_k."""

    name: int
    called: str
    ts: int
    status: str | None
    value: Decimal | None
    currency: str


class Page(Struct, array_like=True, frozen=True, gc=False):
    """How a telling is entered: by which way it came, its channel in the shop's word; the inbox row that it came from.

    `kept_out`: the order, where nothing else is stored of it.
    """

    seen: int = WEBHOOK
    channel: str = ""
    inbox: int | None = None
    kept_out: KeptOut | None = None


class Waiting(Struct, array_like=True, frozen=True, gc=False):
    """An order as its platform gave it. `seen`: as shop_order.seen."""

    id: int
    store: str
    platform: str
    topic: str
    seen: int
    body: bytes


class Who(Struct, array_like=True, frozen=True, gc=False):
    """Of whom, in which store; `names`: keyed names of the person and of the orders, to be known as erased at once."""

    kind: Kind
    store: str
    external_id: str = ""
    email: str = ""
    phone: str = ""
    orders: tuple[str, ...] = ()
    names: tuple[int, ...] = ()
