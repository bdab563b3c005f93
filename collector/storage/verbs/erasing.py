"""What of an erasure every engine does alike: the receipt, the names that are left, answers without what they named."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from secrets import token_hex
from typing import Any, Final

import msgspec
from msgspec import Struct

from collector.core.events import StoredEvent
from collector.core.ids import PublicIds
from collector.storage.verbs.person import Person, Value

_encode = msgspec.msgpack.Encoder().encode
_PUBLIC_ID: Final = re.compile(rb"(?:click|conv)_[0-9a-f]{32}")
NO_NAME: Final = 0  # of an erasure that leaves no name; no keyed name is expected to be 0 (one in 2^63)
ERASED: Final = "this was about somebody who was erased on request"


class Receipt(Struct, frozen=True, rename="camel"):
    """What was, or would be, erased in one store. No personal data is in it."""

    store: str
    clicks: int = 0
    conversions: int = 0
    visitors: int = 0
    links: int = 0  # of a value with a visitor
    answers: int = 0  # remembered for an Idempotency-Key
    sent: int = 0  # events that Meta has, or may have: it alone can erase those
    not_sent: int = 0  # events that were still to be sent
    shared: int = 0  # values that too many share to be one person's: nobody was followed from them
    unread: int = 0  # orders that a pull or a file had found and that were not stored yet


class Erasure(Struct, frozen=True, rename="camel"):
    """`cleared`: write-ahead logs and the gaps of pages hold nothing of before either; the next erasure tries again."""

    at: int
    receipts: list[Receipt]
    cleared: bool


def receipt_of(store: str, person: Person, answers: int) -> Receipt:
    """`answers`: remembered ones that name a row of the person."""
    return Receipt(
        store=store,
        clicks=len(person.clicks),
        conversions=len(person.conversions),
        visitors=len(person.visitors),
        links=person.links,
        answers=answers,
        sent=person.sent,
        not_sent=person.not_sent,
        shared=len(person.shared),
        unread=len(person.unread),
    )


def is_nobody(person: Person) -> bool:
    """Whether no row is theirs."""
    return not (person.clicks or person.conversions or person.others or person.links or person.unread)


def fbclids_of(person: Person) -> set[int]:
    """The links by which the person came."""
    found = {order.fbclid_k for order in person.conversions.values()}
    found |= {click.fbclid_k for click in person.clicks.values()}
    return {name for name in found if name is not None}


def names_left(person: Person, mine: Iterable[Value], called: Iterable[int], passed_on: Collection[int]) -> list[int]:
    """The names by which late word of the person is known, once the rows are gone: those that are nobody else's.

    `mine`: the values of the erased orders that nobody else has; `called`: their other names; `passed_on`: links that
    others came by as well.
    """
    names: set[int | None] = {key for _, key in person.given - person.shared}
    names |= person.visitors | {key for _, key in mine} | set(called) | (fbclids_of(person) - set(passed_on))
    for order in person.conversions.values():
        names |= {order.dedup_k, order.fbp_k}
    for click in person.clicks.values():
        names |= {click.visitor_k, click.fbp_k}
    return sorted(name for name in names if name is not None) or [NO_NAME]  # keepers are to hear of each erasure


def without_device(body: bytes) -> bytes:
    """Somebody else's order without the device that it was placed on."""
    event = msgspec.msgpack.decode(body, type=StoredEvent)
    event.visitor_id = event.fbp = event.fbc = event.fbclid = None
    return _encode(event)


def public_ids(public: PublicIds, person: Person) -> set[bytes]:
    """As outsiders know the person's clicks and orders."""
    found = {public.public("click", i).encode() for i in person.clicks}
    return found | {public.public("conv", i).encode() for i in person.conversions}


def naming(answers: Iterable[tuple[int, bytes]], wanted: Collection[bytes]) -> dict[int, set[bytes]]:
    """Remembered answers that name one of these, by their key: which of them each names."""
    return {key: named for key, answer in answers if (named := set(wanted) & set(_PUBLIC_ID.findall(answer)))}


def blanked(status: int, answer: bytes, named: set[bytes]) -> tuple[int, bytes]:
    """The answer (status, body) without what names these ids; other items of a batch stay as they are."""
    refusal: dict[str, Any] = {
        "success": False,
        "error": {"code": "forbidden", "message": ERASED, "requestId": f"req_{token_hex(8)}"},
    }
    raw = msgspec.json.decode(answer, type=_Batch)
    if raw.data.results is None:
        return 403, msgspec.json.encode(refusal)
    items = [
        item if named.isdisjoint(_PUBLIC_ID.findall(bytes(item))) else msgspec.Raw(msgspec.json.encode(refusal))
        for item in raw.data.results
    ]
    return status, msgspec.json.encode({"success": True, "data": {"results": items}})


class _Results(Struct):
    results: list[msgspec.Raw] | None = None


class _Batch(Struct):
    data: _Results
