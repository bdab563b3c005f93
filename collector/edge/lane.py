"""The fast lane: a plain, whole request to a busy route is taken as it came off the socket.

    bytes ─▶ plan of this head ─▶ key, rate ─▶ decode, check, name ─▶ the keeper ═▶ answer, by the wake-up of its group

The Litestar application has these routes too, and is the reference: what is not plain falls through to it as it came.
What is plain: one read holds exactly one request, at the start of a message, whose head the same strict parser takes;
POST without a query, Content-Length, a secret key, no Origin, Idempotency-Key, Prefer, Expect, Upgrade or coding. No
task, no future and no ASGI is on this path (measured: half of a click's time on the loop).

A plan remembers what a head says, from its bytes and its peer's address: never whether its key is in force.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import httptools
from msgspec import Struct

from collector.edge.door import BATCH_TYPES, JSON_TYPES, Door
from collector.errors import ApiError
from collector.exchange import keys
from collector.exchange.keys import ApiKey
from collector.exchange.responses import JSON, Answer, Headers
from collector.guard.framing import fault_in
from collector.guard.gate import Counts, GuardLimits
from collector.guard.names import given_id, new_request_id
from collector.guard.protocol import GuardedProtocol

_END: Final = b"\r\n\r\n"
_LONGEST_HEAD: Final = 4_096  # bytes; a longer one is no server's usual one
_MOST_PLANS: Final = 1_024
# Headers that make a request one for the application; what else it may say changes nothing here.
_NOT_PLAIN: Final = frozenset(
    {
        b"transfer-encoding",
        b"expect",
        b"upgrade",
        b"content-encoding",
        b"idempotency-key",
        b"prefer",
        b"origin",
        b"trailer",
        b"te",
    }
)
_ONCE: Final = frozenset({b"content-length", b"content-type", b"authorization", b"host", b"connection"})

Begin = Callable[[bytes, "Plan", ApiKey], "Begun"]
Finish = Callable[[Any], Answer]


class Begun(Struct, gc=False):
    """Operations for the keeper, and what makes the answer of their results."""

    operations: Sequence[Any]
    finish: Finish


class Plan(Struct, frozen=True, gc=False):
    """What a head says. `length`: of its body, bytes; `digest`: of its key; `address`: the caller's."""

    begin: Begin
    counts: Counts
    verb: str
    length: int
    digest: bytes
    address: str
    media: bytes
    name: str | None


class Lane:
    """One edge's. `verbs`: what begins a request to each busy path, and what counts its answers."""

    def __init__(self, door: Door, verbs: Mapping[bytes, tuple[str, Begin]], limits: GuardLimits) -> None:
        self._door = door
        self._keeper = door.keeper
        self._verbs = {path: (verb, begin, door.tally.of(verb)) for path, (verb, begin) in verbs.items()}
        self._limits = limits
        self._plans: dict[tuple[str, bytes], Plan | None] = {}

    def take(self, connection: GuardedProtocol, data: bytes) -> bool:
        """Whether this request is taken: then `connection` is answered, and reads nothing before that."""
        end = data.find(_END)
        if end < 0:
            return False
        body_at = end + len(_END)
        plan = self._plan(connection, data[:body_at])
        if plan is None or len(data) - body_at != plan.length:
            return False
        key = self._keeper.key(plan.digest)
        if key is None or key.kind != "secret":
            return False
        connection.begin_directly()
        self._begin(connection, plan, key, data[body_at:])
        return True

    def _begin(self, connection: GuardedProtocol, plan: Plan, key: ApiKey, body: bytes) -> None:
        name = plan.name or new_request_id()
        try:
            self._door.spend_key(key)
            begun = plan.begin(body, plan, key)
        except Exception as error:
            self._answer(connection, plan, self._door.refusal(error, plan.verb, name), name)
            return

        def finish(results: Any) -> None:
            """The group is on disk, or is not."""
            try:
                if isinstance(results, Exception):
                    raise results
                answer = begun.finish(results)
            except Exception as error:
                answer = self._door.refusal(error, plan.verb, name)
            self._answer(connection, plan, answer, name)

        if begun.operations:
            self._keeper.send(begun.operations, finish)
        else:
            finish([])

    def _answer(self, connection: GuardedProtocol, plan: Plan, answer: Answer, name: str) -> None:
        plan.counts[answer.status] += 1
        connection.answer_directly(_head(answer, name), answer.body)

    # -- plans -----------------------------------------------------------------------------------------------------

    def _plan(self, connection: GuardedProtocol, head: bytes) -> Plan | None:
        if len(head) > _LONGEST_HEAD:
            return None
        peer = connection.client[0] if connection.client else ""
        known = self._plans.get((peer, head), self)
        if known is not self:
            return known  # type: ignore[return-value]  # `self` alone stands for "unknown"
        if len(self._plans) >= _MOST_PLANS:
            self._plans.clear()
        plan = self._plans[peer, head] = self._made(peer, head)
        return plan

    def _made(self, peer: str, head: bytes) -> Plan | None:
        parsed = _Head.of(head)
        if parsed is None or parsed.method != b"POST":
            return None
        found = self._verbs.get(parsed.url)
        if found is None or not self._is_plain(parsed):
            return None
        verb, begin, counts = found
        headers = dict(parsed.headers)
        media = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if media not in (BATCH_TYPES if verb == "batch" else JSON_TYPES):
            return None
        return Plan(
            begin,
            counts,
            verb,
            int(headers[b"content-length"]),
            keys.digest(headers[b"authorization"][7:].strip()),
            self._door.address_of(peer, parsed.headers),
            media,
            given_id(parsed.headers),
        )

    def _is_plain(self, head: _Head) -> bool:
        """Whether the lane and the application would take this head alike."""
        names = [name for name, _ in head.headers]
        headers = dict(head.headers)
        length, authorization = headers.get(b"content-length", b""), headers.get(b"authorization", b"")
        return (
            head.version == "1.1"
            and fault_in(head.version, head.url, head.headers, 0, self._limits) is None
            and not _NOT_PLAIN.intersection(names)
            and all(names.count(name) <= 1 for name in _ONCE)
            and headers.get(b"connection", b"keep-alive").lower() == b"keep-alive"
            and length.isdigit()
            and str(int(length)).encode() == length
            and int(length) <= self._limits.bodies.of_page
            and authorization[:7].lower() == b"bearer "
            and authorization[7:].strip().startswith(b"sk_")
        )


class _Head:
    """A head as the strict parser reads it."""

    def __init__(self) -> None:
        self.method = b""
        self.version = ""
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.complete = False

    @classmethod
    def of(cls, head: bytes) -> _Head | None:
        """None where it is none, or more than one."""
        found = cls()
        parser = httptools.HttpRequestParser(found)
        try:
            parser.feed_data(head)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            return None
        if not found.complete:
            return None
        found.method, found.version = parser.get_method(), parser.get_http_version()
        return found

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.complete = True


_STATUS: Final = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}


def _head(answer: Answer, name: str) -> bytes:
    """The head of an answer as the application's server writes it."""
    headers: Headers = answer.headers
    if answer.body:
        headers = [JSON, (b"content-length", str(len(answer.body)).encode()), *headers]
    lines = b"".join([b"%b: %b\r\n" % header for header in headers])
    return b"%b%brequest-id: %b\r\n\r\n" % (_STATUS[answer.status], lines, name.encode())


def usual_verbs(door: Door) -> dict[bytes, tuple[str, Begin]]:
    """The busy routes of the tracking API."""

    def click(body: bytes, plan: Plan, key: ApiKey) -> Begun:
        return _single(door, door.prepared_click(body, key, plan.address))

    def event(body: bytes, plan: Plan, key: ApiKey) -> Begun:
        return _single(door, door.prepared_event(body, key, plan.address))

    def batch(body: bytes, plan: Plan, key: ApiKey) -> Begun:
        items = door.prepared_batch(body, key, plan.address, plan.media)
        operations = [item.operation for item in items if not isinstance(item, ApiError)]
        return Begun(operations, lambda results: door.tracker.batch_answer(items, results))

    return {
        b"/v1/track/click": ("click", click),
        b"/v1/track/conversion": ("conversion", event),
        b"/v1/track/event": ("event", event),
        b"/v1/track/batch": ("batch", batch),
    }


def _single(door: Door, prepared: Any) -> Begun:
    return Begun((prepared.operation,), lambda results: door.tracker.answer(prepared, results[0]))
