"""The fast lane: a plain, whole request to a busy route is taken as it came off the socket.

    bytes ─▶ plan of this head ─▶ key, rate ─▶ decode, check, name ─▶ the keeper ═▶ answer, by the wake-up of its group

The Litestar application has these routes too, and is the reference: what is not plain falls through to it as it came.
What is plain: one read holds exactly one request, at the start of a message, whose head the same strict parser takes;
POST without a query, Content-Length, a secret key, no Origin, Idempotency-Key, Prefer, Expect, Upgrade or coding; or a
webhook whose signature holds. No task, no future and no ASGI is on this path (measured: half of a click's time on the
loop).

A plan remembers what a head says, from its bytes and its peer's address: never whether its key is in force. A webhook's
head is never the same twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final

import httptools
from msgspec import Struct

from collector.core.intake import Caller
from collector.edge.door import BATCH_TYPES, JSON_TYPES, WEBHOOKS, Door
from collector.edge.webhooks import Begun, Webhooks
from collector.errors import ApiError
from collector.exchange import keys
from collector.exchange.keys import ApiKey
from collector.exchange.responses import JSON, Answer, Headers
from collector.guard.framing import fault_in
from collector.guard.gate import Counts, GuardLimits
from collector.guard.names import given_id, new_request_id
from collector.guard.protocol import GuardedProtocol

_END: Final = b"\r\n\r\n"
_WEBHOOK: Final = b"POST " + WEBHOOKS.encode()
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


class Plan(Struct, frozen=True, gc=False):
    """What a head says. `length`: of its body, bytes; `digest`: of its key."""

    begin: Begin
    counts: Counts
    verb: str
    length: int
    digest: bytes
    caller: Caller
    media: bytes
    name: str | None


class Lane:
    """One edge's. `verbs`: what begins a request to each busy path, and what counts its answers."""

    def __init__(
        self, door: Door, verbs: Mapping[bytes, tuple[str, Begin]], webhooks: Webhooks, limits: GuardLimits
    ) -> None:
        self._door = door
        self._webhooks = webhooks
        self._of_webhooks = door.tally.of("webhook")
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
        if data.startswith(_WEBHOOK):
            return self._take_webhook(connection, data[:body_at], data[body_at:])
        plan = self._plan(connection, data[:body_at])
        if plan is None or len(data) - body_at != plan.length:
            return False
        key = self._keeper.key(plan.digest)
        if key is None or key.kind != "secret":
            return False
        connection.begin_directly()
        body = data[body_at:]

        def begin() -> Begun:
            self._door.spend_key(key)
            return plan.begin(body, plan, key)

        self._begin(connection, plan.verb, plan.counts, plan.name, begin, body)
        return True

    def _take_webhook(self, connection: GuardedProtocol, head: bytes, body: bytes) -> bool:
        """Only what is signed: all else is refused, and counted, by the application."""
        parsed = _Head.of(head) if len(head) <= _LONGEST_HEAD else None
        if parsed is None or not self._is_plain(parsed) or _length(parsed) != len(body):
            return False
        signed = self._webhooks.signed(parsed.url.decode("latin-1"), parsed.headers, body)
        if signed is None:
            return False
        connection.begin_directly()
        name = given_id(parsed.headers)
        self._begin(connection, "webhook", self._of_webhooks, name, lambda: self._webhooks.begun(signed))
        return True

    def _begin(
        self,
        connection: GuardedProtocol,
        verb: str,
        counts: Counts,
        given: str | None,
        begin: Callable[[], Begun],
        body: bytes = b"",
    ) -> None:
        name = given or new_request_id()

        def answer(told: Answer) -> None:
            counts[told.status] += 1
            connection.answer_directly(_head(told, name), told.body)

        try:
            begun = begin()
        except Exception as error:
            answer(self._door.refusal(error, verb, name, body))
            return

        def finish(results: Any) -> None:
            """The group is on disk, or is not."""
            try:
                if isinstance(results, Exception):
                    raise results
                told = begun.finish(results)
            except Exception as error:
                told = self._door.refusal(error, verb, name, body)
            answer(told)

        if begun.operations:
            self._keeper.send(begun.operations, finish)
        else:
            finish([])

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
        if found is None or not self._is_plain(parsed) or not _has_secret_key(parsed):
            return None
        verb, begin, counts = found
        media = parsed.last.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if media not in (BATCH_TYPES if verb == "batch" else JSON_TYPES):
            return None
        return Plan(
            begin,
            counts,
            verb,
            _length(parsed),
            keys.digest(parsed.last[b"authorization"][7:].strip()),
            Caller(secret=True, address=self._door.address_of(peer, parsed.headers)),
            media,
            given_id(parsed.headers),
        )

    def _is_plain(self, head: _Head) -> bool:
        """Whether the lane and the application would take this head alike."""
        headers = head.last
        length = headers.get(b"content-length", b"")
        return (
            head.version == "1.1"
            and fault_in(head.version, head.url, head.headers, 0, self._limits) is None
            and _NOT_PLAIN.isdisjoint(headers)
            and (len(headers) == len(head.headers) or head.repeats.isdisjoint(_ONCE))
            and headers.get(b"connection", b"keep-alive").lower() == b"keep-alive"
            and length.isdigit()
            and str(int(length)).encode() == length
            and int(length) <= self._limits.bodies.of_page
        )


class _Head:
    """A head as the strict parser reads it."""

    def __init__(self) -> None:
        self.method = b""
        self.version = ""
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.last: dict[bytes, bytes] = {}  # of each name the last value
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
        found.last = dict(found.headers)
        return found

    @property
    def repeats(self) -> set[bytes]:
        """Names that stand more than once."""
        names = [name for name, _ in self.headers]
        return {name for name in names if names.count(name) > 1}

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.complete = True


def _length(head: _Head) -> int:
    return int(head.last[b"content-length"])


def _has_secret_key(head: _Head) -> bool:
    authorization = head.last.get(b"authorization", b"")
    return authorization[:7].lower() == b"bearer " and authorization[7:].strip().startswith(b"sk_")


_STATUS: Final = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}

_USUAL: Final = b"%bcontent-type: application/json\r\ncontent-length: %d\r\nrequest-id: %b\r\n\r\n"


def _head(answer: Answer, name: str) -> bytes:
    """The head of an answer as the application's server writes it."""
    headers: Headers = answer.headers
    if answer.body and not headers:
        return _USUAL % (_STATUS[answer.status], len(answer.body), name.encode())
    if answer.body:
        headers = [JSON, (b"content-length", str(len(answer.body)).encode()), *headers]
    lines = b"".join([b"%b: %b\r\n" % header for header in headers])
    return b"%b%brequest-id: %b\r\n\r\n" % (_STATUS[answer.status], lines, name.encode())


def usual_verbs(door: Door) -> dict[bytes, tuple[str, Begin]]:
    """The busy routes of the tracking API."""

    def click(body: bytes, plan: Plan, key: ApiKey) -> Begun:
        return _single(door, door.prepared_click(body, key, plan.caller))

    def event(body: bytes, plan: Plan, key: ApiKey) -> Begun:
        return _single(door, door.prepared_event(body, key, plan.caller))

    def batch(body: bytes, plan: Plan, key: ApiKey) -> Begun:
        items = door.prepared_batch(body, key, plan.caller, plan.media)
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
