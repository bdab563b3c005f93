"""What an edge and the keeper say to each other, as bytes on their socket pair.

    edge ── ToKeeper: submissions, questions, figures; one frame per turn of its loop ─▶ keeper
         ◀── ToEdge: results of a group, answers, and what every edge must know; one frame per group ──

A frame is its content's length in four bytes (little endian) and the content, msgpack. Submissions and questions carry
a number of the edge's own, by which it knows its answers again; they may come in another order. An edge that reads no
answer must take what it asked for lost: it may be on disk or not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from collector.core.cookies import Jar
from collector.core.events import StoredEvent
from collector.core.ids import PublicIds
from collector.core.matching import Query
from collector.core.trusted import Mark
from collector.errors import ApiError, StorageError
from collector.exchange.clicks import ClickResult, NewClick
from collector.exchange.keys import ApiKey
from collector.exchange.naming import Keys, NewEvent, Told
from collector.exchange.operations import (
    Again,
    Answered,
    Once,
    Operation,
    Remember,
    Reworded,
    ShopDelivery,
    ShopTaken,
    ShopTold,
    Withdraw,
)
from collector.exchange.prepared import PreparedClick, PreparedEvent
from collector.exchange.rows import ClickRow
from collector.exchange.shops import Page, Waiting, Who
from collector.exchange.states import Attempt, Delivery, EventResult, EventState
from collector.exchange.stores import Store

LENGTH_BYTES: Final = 4
LONGEST: Final = 256 * 1024 * 1024  # bytes of a frame: several batches of the largest body at once; beyond is no frame


class EventAsked(Struct, array_like=True, tag=1, gc=False):
    """A NewEvent; the keeper knows the store by its number."""

    store: int
    event: StoredEvent
    query: Query
    dedup_k: int | None
    identities: Keys
    former: dict[int, int]
    source: int
    filled: bool
    told: Told | None
    order_k: int | None


class PreparedAsked(Struct, array_like=True, tag=1, gc=False):
    """A PreparedEvent under an Idempotency-Key."""

    operation: EventAsked


class OnceAsked(Struct, array_like=True, tag=2, gc=False):
    """A Once."""

    items: list[PreparedClick | PreparedAsked | bytes]
    key_k: int
    body_hash: bytes
    batch: bool


class ShopAsked(Struct, array_like=True, tag=7, gc=False):
    """A ShopTold."""

    delivery: ShopDelivery
    reason: str | None
    event: EventAsked | None
    names: tuple[int, ...]
    numbers: tuple[int, ...]
    ends: bool
    others: tuple[str, ...]
    page: Page
    request: Who | None


Asking = NewClick | EventAsked | OnceAsked | Reworded | Again | Remember | Withdraw | ShopAsked


class Submitted(Struct, array_like=True, gc=False):
    """Operations that are committed together or not at all."""

    number: int
    operations: list[Asking]


class Question(Struct, array_like=True, gc=False):
    """What is known of a row by now?"""

    number: int
    kind: Literal["conversion", "click", "inbox"]
    row: int


class ToKeeper(Struct, array_like=True, gc=False):
    """A frame to the keeper. `figures`: what to add to a store's daily figures; `totals`: to the running ones.

    `refused`: code, field and order's number of some of what was refused of the merchant's own.
    """

    submitted: list[Submitted] = []
    questions: list[Question] = []
    figures: list[tuple[int, str, int]] = []
    totals: dict[str, int] = {}
    refused: list[tuple[str, str, str]] = []


class Refused(Struct, array_like=True, tag=3, gc=False):
    """An ApiError as a result."""

    code: str
    message: str
    field: str | None
    order: str | None = None


class Recalled(Struct, array_like=True, tag=4, gc=False):
    """The result of Remember."""

    jar: Jar


class Done(Struct, array_like=True, tag=5, gc=False):
    """The result of what has none."""


class AnsweredOnce(Struct, array_like=True, tag=2, gc=False):
    """The result of Once."""

    status: int
    answer: bytes
    replayed: bool
    results: list[ClickResult | EventResult | Refused]


Result = ClickResult | EventResult | AnsweredOnce | Refused | Recalled | Done | ShopTaken


class Committed(Struct, array_like=True, gc=False):
    """What became of a submission: its results once they are on disk, or why nothing of it was stored."""

    number: int
    results: list[Result]
    fault: Literal["", "storage", "defect"] = ""


class FoundConversion(Struct, array_like=True, tag=1, gc=False):
    """A conversion with its deliveries and every attempt."""

    state: EventState
    deliveries: list[Delivery]
    attempts: list[Attempt]


class FoundClick(Struct, array_like=True, tag=2, gc=False):
    """A click and the conversions that it was given."""

    row: ClickRow
    conversions: list[int]


class FoundInbox(Struct, array_like=True, tag=3, gc=False):
    """The oldest orders that a pull or a file has found and nobody has read."""

    rows: list[Waiting]


class Found(Struct, array_like=True, gc=False):
    """The answer to a question; None: there is no such row."""

    number: int
    answer: FoundConversion | FoundClick | FoundInbox | None
    fault: bool = False


class State(Struct, array_like=True, gc=False):
    """What every edge knows as the keeper does. `keys`: those in force; `erased`: names that came since then."""

    keys: list[ApiKey]
    erased: list[int]
    refusing: bool  # the disk is full
    able: bool  # an event could be stored, as far as the last write tells
    damage: str | None  # what is lost or damaged, in a sentence with the mend
    mark: Mark | None  # what the trusted now rests on
    inbox: int = 0  # grows whenever another process has written and orders wait in the shops' inbox


class Hello(Struct, array_like=True, gc=False):
    """The keeper's first word on a connection. `release`: of its program; `pepper`: what names are made with."""

    release: str
    stores: dict[str, Store]
    pepper: bytes


class ToEdge(Struct, array_like=True, gc=False):
    """A frame to an edge."""

    committed: list[Committed] = []
    found: list[Found] = []
    state: State | None = None
    hello: Hello | None = None


def _plain(value: Any) -> Any:
    if isinstance(value, ApiError):
        return Refused(value.code, value.message, value.field, value.order)
    raise TypeError(f"no wire form for {type(value).__name__}")


_encode: Final = msgspec.msgpack.Encoder(enc_hook=_plain).encode
_asked: Final = msgspec.msgpack.Decoder(ToKeeper).decode
_told: Final = msgspec.msgpack.Decoder(ToEdge).decode


def frame(content: ToKeeper | ToEdge) -> bytes:
    """The bytes of a frame."""
    raw = _encode(content)
    return len(raw).to_bytes(LENGTH_BYTES, "little") + raw


def decode_to_keeper(content: bytes | memoryview) -> ToKeeper:
    """A frame to the keeper; ValueError for anything else."""
    return _asked(content)


def decode_to_edge(content: bytes | memoryview) -> ToEdge:
    """A frame to an edge; ValueError for anything else."""
    return _told(content)


def asking(operation: Operation) -> Asking:
    """An operation as it goes on the wire."""
    if type(operation) is NewClick:
        return operation
    if isinstance(operation, NewEvent):
        return _event_asked(operation)
    if isinstance(operation, Once):
        items = [
            PreparedAsked(_event_asked(i.operation)) if isinstance(i, PreparedEvent) else i for i in operation.items
        ]
        return OnceAsked(items, operation.key_k, operation.body_hash, operation.batch)
    if isinstance(operation, ShopTold):
        event = _event_asked(operation.event) if operation.event is not None else None
        one = operation
        told = (one.names, one.numbers, one.ends, one.others, one.page, one.request)
        return ShopAsked(one.delivery, one.reason, event, *told)
    return operation


def _event_asked(new: NewEvent) -> EventAsked:
    return EventAsked(
        new.store.number,
        new.event,
        new.query,
        new.dedup_k,
        new.identities,
        new.former,
        new.source,
        new.filled,
        new.told,
        new.order_k,
    )


class Operations:
    """Operations again, from what came on the wire; `stores` by their number."""

    def __init__(self, stores: Mapping[int, Store], public: PublicIds) -> None:
        self._stores, self._public = stores, public

    def of(self, asked: Asking) -> Operation:
        """KeyError for a store that is not in this configuration any more."""
        if type(asked) is NewClick:
            return asked
        if isinstance(asked, EventAsked):
            return self._event(asked)
        if isinstance(asked, OnceAsked):
            items = [
                PreparedEvent(self._event(item.operation), ()) if isinstance(item, PreparedAsked) else item
                for item in asked.items
            ]
            return Once(items, asked.key_k, asked.body_hash, asked.batch)
        if isinstance(asked, ShopAsked):
            event = self._event(asked.event) if asked.event is not None else None
            told = (asked.names, asked.numbers, asked.ends, asked.others, asked.page, asked.request)
            return ShopTold(asked.delivery, asked.reason, event, *told)
        return asked

    def _event(self, asked: EventAsked) -> NewEvent:
        return NewEvent(
            self._stores[asked.store],
            asked.event,
            asked.query,
            asked.dedup_k,
            asked.identities,
            self._public,
            asked.former,
            asked.source,
            asked.filled,
            asked.told,
            asked.order_k,
        )


def result_of(value: Any) -> Result:
    """A writer's result as it goes on the wire."""
    if type(value) is ClickResult or type(value) is EventResult or type(value) is ShopTaken:
        return value
    if isinstance(value, ApiError):
        return _plain(value)  # type: ignore[no-any-return]
    if isinstance(value, Answered):
        return AnsweredOnce(value.status, value.answer, value.replayed, [result_of(r) for r in value.results])  # type: ignore[misc]
    return Recalled(value) if isinstance(value, Jar) else Done()


def value_of(result: Result) -> Any:
    """The writer's result again."""
    if type(result) is ClickResult or type(result) is EventResult or type(result) is ShopTaken:
        return result
    match result:
        case Refused(code, message, field, order):
            error = ApiError(code, message, field)
            error.order = order
            return error
        case AnsweredOnce(status, answer, replayed, results):
            return Answered(status, answer, replayed, [value_of(one) for one in results])
        case Recalled(jar):
            return jar
    return None


def committed(number: int, results: Sequence[Any] | Exception) -> Committed:
    """What became of a submission, for the wire."""
    if isinstance(results, StorageError):
        return Committed(number, [], "storage")
    if isinstance(results, Exception):
        return Committed(number, [], "defect")
    return Committed(number, [result_of(value) for value in results])


class Frames:
    """Cuts a stream of bytes into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The contents of the frames that are whole by now; ValueError where the stream is none of ours."""
        if not self._buffer and len(data) == LENGTH_BYTES + int.from_bytes(data[:LENGTH_BYTES], "little"):
            yield data[LENGTH_BYTES:]  # nearly always: one whole frame
            return
        buffer = self._buffer
        buffer += data
        begin = 0
        while len(buffer) - begin >= LENGTH_BYTES:
            length = int.from_bytes(buffer[begin : begin + LENGTH_BYTES], "little")
            if length > LONGEST:
                raise ValueError(f"a frame of {length} bytes")
            end = begin + LENGTH_BYTES + length
            if len(buffer) < end:
                break
            yield bytes(buffer[begin + LENGTH_BYTES : end])
            begin = end
        del buffer[:begin]
