"""What an edge asks of the keeper beside clicks and events, and what comes back: verbs of the domain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from collector.errors import ApiError
from collector.exchange.clicks import ClickResult, NewClick
from collector.exchange.naming import NewEvent
from collector.exchange.prepared import PreparedClick, PreparedEvent
from collector.exchange.shops import Page, Who
from collector.exchange.states import EventResult


class Once(Struct, frozen=True):
    """An operation: do these under an Idempotency-Key, or give the answer that they had the first time.

    `items`: what is to be stored, and in their places the answers to those that were refused before. The answer is
    rendered in the same transaction as the effects. A single item's ApiError is not remembered.
    """

    items: Sequence[PreparedClick | PreparedEvent | bytes]
    key_k: int
    body_hash: bytes
    batch: bool


class Answered(Struct, array_like=True, tag=2, frozen=True):
    """The result of Once."""

    status: int
    answer: bytes
    replayed: bool
    results: Sequence[ClickResult | EventResult | ApiError] = ()


class Reworded(Struct, array_like=True, tag=3, frozen=True):
    """An operation: a replay under this Idempotency-Key is given this answer, which the first caller waited for."""

    key_k: int
    body_hash: bytes
    answer: bytes


class Again(Struct, array_like=True, tag=4, frozen=True):
    """An operation: match this conversion (by row id) again with what is known now, if it is still open."""

    conversion: int


class Remember(Struct, array_like=True, tag=5, frozen=True):
    """The question: `visitor_k` names `visitor`; nothing from before `since` (ms) counts."""

    store: int
    visitor: str
    visitor_k: int
    since: int
    subdomain_index: int


class Withdraw(Struct, array_like=True, tag=6, frozen=True):
    """An operation: `visitor_k` names `visitor`, who takes back what was granted."""

    store: int
    visitor: str
    visitor_k: int


class ShopDelivery(Struct, array_like=True, frozen=True):
    """A signed message. `id`: SHA-256 of what makes it this one."""

    id: bytes
    store: int
    webhook: str
    topic: str


class ShopTold(Struct, frozen=True):
    """An operation: take what a delivery tells of an order, or note why nothing comes of it.

    `names`, `numbers`: what else the order is called, keyed as its own name is. `ends`: it says only that an order that
    we have has ended.
    """

    delivery: ShopDelivery
    reason: str | None
    event: NewEvent | None = None
    names: tuple[int, ...] = ()
    numbers: tuple[int, ...] = ()
    ends: bool = False
    others: tuple[str, ...] = ()  # those names as they are: under which pages may have told of it
    page: Page = Page()  # how the shop's own list takes it
    request: Who | None = None  # what the platform asks for a person


class ShopTaken(Struct, array_like=True, tag=6, frozen=True):
    """The result of ShopTold: which conversion it is about, or why none."""

    conversion: int | None
    reason: str | None = None
    duplicate: bool = False


Operation = NewClick | NewEvent | Once | Reworded | Again | Remember | Withdraw | ShopTold


class Submission:
    """Operations that one request waits for, and what became of them: a list of results, or the exception of all."""

    __slots__ = ("operations", "results")

    def __init__(self, operations: Sequence[Any]) -> None:
        self.operations = operations
        self.results: list[Any] | Exception = []
