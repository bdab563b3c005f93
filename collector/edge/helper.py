"""The edge's helper: a process that checks and names large batches, so that the edge has its hands free to store them.

Python runs one thread of a process at a time, and of a batch's cost most is checking and naming. Here it runs beside
the edge on another processor.

    edge ── hello: configuration, stores, pepper; then question after question ─▶ helper
         ◀── of each click what the journal needs; of anything else the item as it came ──

The helper decides nothing: what is not a good click goes back as it came, and the edge takes it as it takes everything
when it has no helper (aside.py). It ends when the edge closes the connection, by whatever death.
"""

from __future__ import annotations

import gc
import signal
import socket
from collections.abc import Sequence
from io import BufferedIOBase
from typing import Any, Final, cast

import msgspec
from msgspec import Struct

from collector import release, telemetry
from collector.config import Config
from collector.core import wire
from collector.core.events import ClickBody
from collector.core.ids import PublicIds
from collector.core.intake import Caller
from collector.core.keyed import KeyedHash
from collector.edge.prepare import PreparedClick, Preparer
from collector.errors import ApiError
from collector.storage.keys import ApiKey
from collector.storage.stores import Store

FD: Final = "COLLECTOR_HELPER_FD"  # the variable with the number of the open connection
LENGTH_BYTES: Final = 4
ELSE: Final = b""  # an answer: nothing could be done, take the whole batch yourself
Answered = PreparedClick | bytes  # a click, or the item as it came
_LEFT: Final = ApiError("invalid_field", "left to the edge")
_BUFFER_BYTES: Final = 1 << 20

log = telemetry.logger("helper")
_encode: Final = msgspec.msgpack.Encoder().encode


class Hello(Struct):
    """What the helper knows as the edge does. `release`: of the edge's own program."""

    release: str
    config: Config
    stores: dict[str, Store]
    pepper: bytes


class _Release(Struct):
    """The part of Hello that every release can read."""

    release: str


class Question(Struct, array_like=True):
    """A batch's frame, before the body's own. `now`: its receipt in ms; `store`: the one store of the key, if any."""

    now: int
    lines: bool
    address: str | None
    store: str | None


def framed(content: bytes) -> tuple[bytes, bytes]:
    """A frame's two parts, as both sides write them."""
    return len(content).to_bytes(LENGTH_BYTES, "little"), content


def run(connection: socket.socket) -> int:
    """Answer until the edge closes the connection; the exit code."""
    # The edge's end ends this process. A signal to the whole group must not take it from an edge that still drains.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    with connection, connection.makefile("rb", buffering=_BUFFER_BYTES) as stream:
        asked = cast(BufferedIOBase, stream)  # typeshed promises less
        hello = _frame(asked)
        if hello is not None:
            if msgspec.msgpack.decode(hello, type=_Release).release != release.name():
                return 1  # the program was replaced under a running edge: another release may name otherwise
            known = msgspec.msgpack.decode(hello, type=Hello)
            telemetry.configure(known.config.log, "helper")
            preparer = _preparer(known)
            gc.collect()
            gc.freeze()
            gc.set_threshold(10_000, 20, 100)
            _send(connection, ELSE)  # ready
            while (question := _frame(asked)) is not None and (body := _frame(asked)) is not None:
                _send(connection, _guarded(preparer, question, body))
    return 0


def _frame(stream: BufferedIOBase) -> bytes | None:
    """The next frame's content; None where the edge has ended."""
    length = stream.read(LENGTH_BYTES)
    if len(length) < LENGTH_BYTES:
        return None
    size = int.from_bytes(length, "little")
    content = stream.read(size)
    return content if len(content) == size else None


def _send(connection: socket.socket, content: bytes) -> None:
    for part in framed(content):
        connection.sendall(part)


def _preparer(hello: Hello) -> Preparer:
    names = KeyedHash(hello.pepper)

    def no_clock() -> int:
        raise AssertionError("the edge says when a batch came")

    def no_count(store: int, name: str) -> None:
        raise _LEFT  # a click of which something is left out: the edge counts that

    return Preparer(hello.config, hello.stores, names, PublicIds(names.subkey("public ids")), no_clock, no_count)


def _guarded(preparer: Preparer, question: bytes, body: bytes) -> bytes:
    try:
        answers = answer(preparer, msgspec.msgpack.decode(question, type=Question), body)
    except ApiError:  # the whole batch is bad: the edge says how
        return ELSE
    except Exception as error:
        log.failed("a batch could not be prepared", error)
        return ELSE
    return _encode(answers)


def answer(preparer: Preparer, question: Question, body: bytes) -> Sequence[Answered]:
    """Each good click of a batch, and the rest as it came; ApiError for a batch that is bad as a whole."""
    key = ApiKey("", b"", "secret", question.store, 0, None)
    decoded = wire.decode_batch(body, lines=question.lines)
    clicks: list[Any] = [_LEFT if isinstance(d, ApiError) or not isinstance(d[0], ClickBody) else d for d in decoded]
    found = preparer.items(clicks, Caller(secret=True, address=question.address), key, question.now)
    answers: list[Answered] = [one for one in found if isinstance(one, PreparedClick)]
    if len(answers) == len(found):
        return answers
    pieces = wire.split_batch(body, lines=question.lines)
    return [one if isinstance(one, PreparedClick) else bytes(piece) for one, piece in zip(found, pieces, strict=True)]
