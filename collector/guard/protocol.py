"""How does a door survive slow, greedy and lying clients: uvicorn's httptools protocol with deadlines and budgets.

Plain uvicorn holds an idle, a half-sent and a trickling connection for ever, and httptools takes a header of 5 MB
(measured). One lazy timer per connection, and one look at each request's headers, end that:

    FRESH ──byte──▶ HEADERS ──▶ BODY ──▶ WORKING ──answered──▶ IDLE ──byte──▶ HEADERS …
      5 s             5 s       10 s+      (app)                60 s
      └ close         └ 408     └ 408                           └ close          any fault ──▶ LEAVING (2 s) ──▶ gone

- A timer never moves while requests flow: it looks every few seconds where the connection stands.
- A refused client is answered in the contract's shape, then listened to for 2 s more without reading what it says:
  closing with unread bytes would reset the connection, and the client would never see why.
- What was asked before a fault on the same connection is answered first: nothing that was stored is answered by a 400.
- Bodies are counted while they come (bodies.py): one that nobody vouches for ends at a page's size.
- An Upgrade is ignored (RFC 9110 7.8): a request that asks for one is parsed again without it.
- An address that holds too many connections loses its oldest waiting one, so that a flood of idle connections never
  shuts out the next request; only when all of them are at work is a new one refused.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar, Final, Protocol, cast

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from collector.core.addresses import Networks
from collector.guard import names, refusals
from collector.guard.bodies import Allowance, Loads, Scope
from collector.guard.exit import Exit, ending
from collector.guard.framing import fault_in, head_without_upgrade
from collector.guard.gate import Counts, Gate, GuardLimits
from collector.guard.refusals import Refusal

FRESH: Final = 0  # connected, no byte yet
HEADERS: Final = 1  # a request has begun
BODY: Final = 2  # its headers are complete
WORKING: Final = 3  # it is complete, the application owes the answer
IDLE: Final = 4  # answered, kept alive
LEAVING: Final = 5  # refused or closing: whatever still comes is thrown away

# A body may take longer than its 10 s when it really flows: a second more for each 64 KiB.
BODY_BYTES_PER_SECOND: Final = 65_536
# Chunk sizes, extensions and trailers of a chunked body: 6 bytes for each of the body's (chunks of one byte), and this.
CHUNK_OVERHEAD_BYTES: Final = 524_288
# Requests of a pipeline that wait for their turn: each costs 3 KB, and one read could hold 14,000 of them.
MAX_PIPELINED: Final = 16
# What a client that was refused may still send us within the linger.
LINGER_BYTES: Final = 8 * 1024 * 1024


class Shortcut(Protocol):
    """Answers plain requests without the application."""

    def take(self, connection: GuardedProtocol, data: bytes) -> bool:
        """Whether `data`, at the start of a message, is one whole request that it answers by `answer_directly`."""


class _Refused(Exception):
    """Leaves the parser from within a callback; the refusal is in `GuardedProtocol.fault`."""


class GuardedProtocol(HttpToolsProtocol):
    """One connection. `make_protocol` gives the class its limits and its gate."""

    limits: ClassVar[GuardLimits] = GuardLimits()
    gate: ClassVar[Gate] = Gate(limits, Networks())
    allowance: ClassVar[Allowance | None] = None
    shortcut: ClassVar[Shortcut | None] = None

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.raw: asyncio.Transport = None  # type: ignore[assignment]
        self.phase = FRESH
        self.since = 0.0  # when the phase began; 0: to be set once the bytes at hand are parsed
        self.chunk = 0  # bytes of the read being parsed
        self.fed = 0  # bytes since this request began, at most
        self.body = 0  # bytes of its body
        self.loads: Loads = None  # type: ignore[assignment]
        self.drained = 0  # bytes thrown away while leaving
        self.fault = refusals.BAD_REQUEST  # what a failure of the parser means
        self.deaf = False  # nothing more is read from this client
        self.running: RequestResponseCycle | None = None
        self.stuck_since = 0.0  # when the client stopped taking our bytes
        self.timer: asyncio.TimerHandle | None = None
        self.address: str | None = None
        self.counted = False
        self.told = False
        self.ending = False  # the server ends: what is owed is answered, and no more is taken
        self.unproven = True  # no request was completed yet
        self.direct = False  # the shortcut owes an answer
        self.later = bytearray()  # what came meanwhile

    @property
    def waiting(self) -> bool:
        """Whether nothing is owed on this connection, so that it may be given up."""
        return not self._owes_an_answer()

    # -- the connection's life

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.raw = transport
        self.exit = Exit(transport, self._close, self.loop.call_soon, self._is_early, self._name)
        self.transport = cast(asyncio.Transport, self.exit)
        self.since = self.loop.time()
        self._arm(self.limits.header_seconds)
        refusal = self.gate.admit(self, self.client[0] if self.client else None)
        if refusal is not None:
            self._turn_away(refusal)
        self.loads = Loads(self.gate.bodies_of, self.address, self.gate.caller, type(self).allowance)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.timer is not None:
            self.timer.cancel()
        self.gate.leave(self)
        self.loads.drop()
        if self.told:
            self.gate.told -= 1
        self.deaf = True
        self.phase = LEAVING
        super().connection_lost(exc)
        self.exit.forget()

    def drop(self) -> None:
        """End the connection at once, whatever is unsent."""
        self.deaf = True
        self.phase = LEAVING
        self.raw.abort()

    def eof_received(self) -> bool:  # type: ignore[override]
        """A client that has said all it wants to say still gets its answer (`shutdown(SHUT_WR)`, old `nc`)."""
        if self.phase == LEAVING or not self._owes_an_answer():
            return False
        self._answer_and_end()
        return True

    def _owes_an_answer(self) -> bool:
        """Whether a whole request is at work; one whose body is still coming does not count."""
        running = self.running
        return self.direct or (running is not None and not running.response_complete and not self._is_early())

    def _is_early(self) -> bool:
        """Whether the body of the request at work is still coming."""
        return self.phase == BODY and self.cycle is self.running

    def data_received(self, data: bytes) -> None:
        if self.deaf:
            self._throw_away(len(data))
            return
        if self.direct:
            self._keep_for_later(data)
            return
        if self.shortcut is not None and self._between_messages() and self.shortcut.take(self, data):
            return
        self.chunk = len(data)
        self.fed += self.chunk
        try:
            self._parse(data)
        except httptools.HttpParserError:
            self._fail(self.fault)
        if HEADERS <= self.phase <= BODY:
            self._look_at_unfinished()

    def _parse(self, data: bytes) -> None:
        """Feed the parser; one that stops for an Upgrade gives way to another that never saw it."""
        while True:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as stopped:
                data = data[stopped.args[0] :]
                head = head_without_upgrade(self.parser, self.url, self.headers)
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's own
                self.parser.feed_data(head)

    def _look_at_unfinished(self) -> None:
        """A request that did not come in one piece: start its clock, hold its budget."""
        if not self.since:
            self.since = self.loop.time()
        if self.phase == HEADERS:
            if self.fed > self.limits.header_bytes + self.limits.target_bytes:
                self._fail(refusals.HEADERS_TOO_LARGE)
        elif self.fed - 7 * self.body > CHUNK_OVERHEAD_BYTES or len(self.headers) > self.limits.headers:
            self._fail(refusals.BAD_REQUEST)

    # -- the shortcut

    def _between_messages(self) -> bool:
        """Whether the next byte begins a message and nothing is owed, so that an answer cannot overtake another."""
        return self.phase in (IDLE, FRESH) and not self.flow.write_paused

    def begin_directly(self) -> None:
        """The shortcut has taken a whole request; what comes next waits until `answer_directly`."""
        self.direct = True
        self.phase = WORKING
        self._prove()

    def answer_directly(self, head: bytes, body: bytes) -> None:
        """Answer the request that the shortcut took."""
        self.direct = False
        if self.raw.is_closing() or self.phase == LEAVING:
            return
        self.server_state.total_requests += 1
        if self.deaf or self.ending:
            self.raw.write(ending(head) + body)
            self._close()
            return
        self.raw.write(head + body)
        self.phase = IDLE
        self.since = self.loop.time()
        if self.later:
            data, self.later = bytes(self.later), bytearray()
            self.flow.resume_reading()
            self.data_received(data)

    def _keep_for_later(self, data: bytes) -> None:
        self.later += data
        if len(self.later) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()

    # -- the parser's callbacks

    def on_message_begin(self) -> None:
        if self.deaf or len(self.pipeline) >= MAX_PIPELINED:
            self.fault = refusals.BAD_REQUEST if self.phase != BODY else refusals.BODY_TOO_LARGE
            raise _Refused
        self.phase = HEADERS
        self.since = 0.0
        self.fed = self.chunk
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        fault = fault_in(self.parser.get_http_version(), self.url, self.headers, self.fed, self.limits)
        if fault is not None:
            self.fault = fault
            raise _Refused
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise _Refused
            return  # the same head comes again without its Upgrade (_parse)
        super().on_headers_complete()
        if not self.pipeline:
            self.running = self.cycle
        self.loads.begin(cast(Scope, self.scope))
        self.headers = []  # trailers land here, not among the headers that the application trusts
        self.phase = BODY
        self.since = 0.0
        self.body = 0

    def on_body(self, body: bytes) -> None:
        """As uvicorn's, counting; an Upgrade is never asked about, there is none."""
        self.body += len(body)
        cycle = self.cycle
        if cycle.response_complete or self.deaf:
            return
        refusal = self.loads.take(len(body))
        if refusal is refusals.BODY_TOO_LARGE:
            self.deaf = True
            self.loop.call_soon(self._refuse, cycle)  # the application's own refusal comes first: a page may read it
            return
        if refusal is not None:
            self.fault = refusal
            raise _Refused
        cycle.body += body
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.message_event.set()

    def _refuse(self, cycle: RequestResponseCycle) -> None:
        if self.phase == BODY and not cycle.response_complete:
            self._fail(refusals.BODY_TOO_LARGE)

    def on_message_complete(self) -> None:
        if self.phase != BODY or self.deaf:
            return
        self.phase = WORKING
        self.cycle.more_body = False
        self.cycle.message_event.set()
        if not self.cycle.keep_alive:
            self.deaf = True  # RFC 9112 9.6: after "close" nothing more is processed
        self._prove()

    def _prove(self) -> None:
        if self.unproven:
            self.unproven = False
            self.gate.unproven.pop(self, None)

    # -- the application's side

    def on_response_complete(self) -> None:
        """As uvicorn's, with our own keep-alive clock, and without reading on a body that nobody wants any more."""
        self.server_state.total_requests += 1
        self.loads.answered()
        if self.running is not None and self.running.body:
            self.running.body = bytearray()  # it was never asked for
        if self.raw.is_closing() or self.phase == LEAVING:
            return
        self.flow.resume_reading()
        if self.pipeline:
            self.running, app = self.pipeline.pop()
            self._start_asgi_task(self.running, app)
        elif self.phase == WORKING:
            self.phase = IDLE
            self.since = self.loop.time()
        elif self.phase == BODY and self.cycle.response_complete:
            self._leave(b"")

    def shutdown(self) -> None:
        """The server ends: whole requests are answered; a body still coming has a moment more, then 503."""
        self.ending = True
        if not self.direct:
            super().shutdown()
        self.loop.call_later(self.limits.farewell_seconds, self._end_unfinished)

    def _end_unfinished(self) -> None:
        if HEADERS <= self.phase <= BODY:
            self._fail(refusals.OVERLOADED)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.stuck_since = self.loop.time()

    # -- leaving

    def _close(self) -> None:
        """What the cycle's `transport.close()` does: at once, or after a linger where the client is still sending."""
        if self.phase == BODY and not self.raw.is_closing():
            self._leave(b"")
            return
        self.deaf = True
        self.phase = LEAVING
        self.since = self.loop.time()
        self.raw.close()

    def _answer_and_end(self) -> None:
        """Nothing more is read; what is being worked on is answered, and then the connection ends."""
        self.deaf = True
        if self.direct:
            return
        last = self.pipeline[0][0] if self.pipeline else self.running
        if last is not None and not last.response_complete:
            last.keep_alive = False
            self.phase = WORKING
        else:
            self._close()

    def _fail(self, refusal: Refusal) -> None:
        """End on `refusal`; what was asked before it is answered in its stead, and no later request is begun."""
        broken = self.cycle if self.phase == BODY else None
        self.deaf = True
        self.gate.refusals[refusal.status_code] += 1
        if broken is not None and self.pipeline and self.pipeline[0][0] is broken:
            self.pipeline.popleft()
            self.loads.taken_back()
        elif broken is not None and broken is self.running:
            self._interrupt(broken, refusal)
            return
        if self.running is not None and not self.running.response_complete:
            self._answer_and_end()
        else:
            self._leave(self._answer(refusal))

    def _interrupt(self, cycle: RequestResponseCycle, refusal: Refusal) -> None:
        """The request at work will never be whole: its application sees a disconnect, its client the refusal."""
        if cycle.response_started:
            self.drop()
            return
        cycle.disconnected = True
        cycle.body = bytearray()
        self.loads.drop()
        cycle.message_event.set()
        self._leave(self._answer(refusal))

    def _leave(self, answer: bytes) -> None:
        self.deaf = True
        self.phase = LEAVING
        self.since = self.loop.time()
        if self.raw.is_closing():
            return
        self.flow.resume_reading()
        self.exit.flush()
        self.raw.write(answer)
        self.raw.write_eof()
        self._arm(self.limits.linger_seconds)

    def _turn_away(self, refusal: Refusal) -> None:
        self.gate.refusals[refusal.status_code] += 1
        self.told = self.gate.may_tell()
        if not self.told:
            self.drop()
            return
        self._leave(self._answer(refusal))

    def _throw_away(self, count: int) -> None:
        self.drained += count
        if self.drained > LINGER_BYTES:
            self.drop()

    def _name(self) -> str:
        """What the request that is being answered is called."""
        return names.request_id(cast(Scope, self.running.scope)) if self.running is not None else names.new_request_id()

    def _answer(self, refusal: Refusal) -> bytes:
        name = names.request_id(cast(Scope, self.scope)) if self.scope is not None else names.new_request_id()
        return refusals.rendered(refusal, name, self.server_state.default_headers)

    # -- the one timer

    def _arm(self, seconds: float) -> None:
        if self.timer is not None:
            self.timer.cancel()
        self.timer = self.loop.call_later(seconds, self._tick)

    def _tick(self) -> None:
        now = self.loop.time()
        if self.flow.read_paused:
            self.since = now  # the application holds the client up, not the client us
        left = self._seconds_left(now)
        if left <= 0:
            self._expire()
        elif not self.raw.is_closing() or self.raw.get_write_buffer_size():
            # Never further than the shortest deadline: the phase may change in between.
            self._arm(min(left, self.limits.header_seconds))

    def _seconds_left(self, now: float) -> float:
        limits, phase = self.limits, self.phase
        if self.flow.write_paused:
            return self.stuck_since + limits.write_seconds - now
        if phase <= HEADERS:
            return self.since + limits.header_seconds - now
        if phase == BODY:
            return self.since + limits.body_seconds + self.body / BODY_BYTES_PER_SECOND - now
        if phase == IDLE:
            patience = limits.header_seconds if self.gate.crowded else limits.idle_seconds
            return self.since + patience - now
        if phase == LEAVING:
            return self.since + (limits.write_seconds if self.raw.is_closing() else limits.linger_seconds) - now
        return limits.header_seconds

    def _expire(self) -> None:
        if self.flow.write_paused or self.phase == LEAVING or self.raw.get_write_buffer_size():
            self.drop()
        elif HEADERS <= self.phase <= BODY:
            self._fail(refusals.TIMED_OUT)
            if self.phase != LEAVING:
                self._arm(self.limits.header_seconds)
        else:
            self._close()


def make_protocol(
    limits: GuardLimits,
    trusted: Networks,
    refusals: Counts | None = None,
    allowance: Allowance | None = None,
    shortcut: Shortcut | None = None,
) -> type[GuardedProtocol]:
    """The protocol class for `uvicorn.Config(http=…)`: one gate for all its connections, so one call per server.

    `refusals` counts what the guard refuses, by HTTP status. `allowance` says how many bytes the body of a request may
    have that has passed a page's size; without it there is no such limit. `shortcut` is asked before the application.
    """
    gate = Gate(limits, trusted, refusals)
    held = staticmethod(allowance) if allowance is not None else None
    return type(
        "GuardedDoor", (GuardedProtocol,), {"limits": limits, "gate": gate, "allowance": held, "shortcut": shortcut}
    )
